"""Scoped edits in the worker: the edits in force are one immutable value, and a revision exchanges it for the next."""
