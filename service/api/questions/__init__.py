"""Asking a worker, hearing its answer, and whose turn it is."""
