"""The HTTP door. Knows the ledger and Redis; knows neither torch nor the editor."""
