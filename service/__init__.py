"""The service around the editor: a ledger in Postgres, a doorbell in Redis, an api without torch, a worker that owns the model.

Layers, each knowing only what stands to its right:
cli -> api | worker | local -> bootstrap -> ledger -> infra -> domain -> settings | errors | logs | metrics
"""
