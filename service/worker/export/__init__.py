"""`errata export`: the model at a revision, written down, read again and compared; kept only when it answers the same."""
