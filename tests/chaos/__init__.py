"""`python -m tests.chaos`: a running service whose processes are killed and stopped at random, and a judge of what is left."""
