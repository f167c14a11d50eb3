"""`python -m bench crowd`: more clients than a service can answer, some of whom hang up, and what is left of them."""
