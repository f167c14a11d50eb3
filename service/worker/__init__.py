"""The process that owns the model: one thread edits and generates, an event loop talks to the ledger and to Redis.

model_thread -> resident (the model at a revision) -> restore (follow the ledger) -> warmup -> writer (lease, batches,
commit) and serving (generations); `main` wires them and drains on SIGTERM.
"""
