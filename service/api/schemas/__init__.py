"""What comes in and what goes out, by what it is about. Unknown fields are refused; in and out are apart."""
