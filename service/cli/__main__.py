"""python -m service.cli: the same as `errata`, for processes started by the supervisor."""

from service.cli.main import app

app()
