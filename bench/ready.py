"""Before a service is measured: is it there, and does its model answer?"""

from __future__ import annotations

from service.cli.client import Client


def require_ready(url: str) -> None:
    """Raises SystemExit that says what it is waiting for."""
    is_ready, waiting = Client(url).ready()
    if not is_ready:
        raise SystemExit(f"{url} is not ready: {waiting}")
