"""The use-cases, and the only transaction boundaries. Life of an edit, in order:

submit (accepted) -> lease (who may write) -> batches (applying) -> commit (applied, with its revision) -> read
"""
