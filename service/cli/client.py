"""The api as the command line uses it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

CHUNK = 200  # edits per request
POLL_INTERVAL_S = 0.3
UNFINISHED = ("accepted", "applying")


class ApiError(Exception):
    """The api's answer to a request it did not take, or that it could not be reached."""


class Client:
    def __init__(self, url: str, timeout_s: float = 180.0, api_key: str = "") -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, timeout=timeout_s, headers=headers)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ApiError(f"{self.url} does not answer ({error}); is it running? `errata up` starts it") from error
        if response.is_success:
            return response.json()
        try:
            problem = response.json()
            raise ApiError(f"{problem['detail']} ({problem['code']}, HTTP {response.status_code})")
        except (ValueError, KeyError):
            raise ApiError(f"{method} {path}: HTTP {response.status_code}") from None

    def submit(self, facts: Sequence[dict[str, Any]]) -> list[int]:
        """Accept facts, in chunks; each chunk has a key of its own, so a repeated request changes nothing. Returns edit ids."""
        ids: list[int] = []
        for start in range(0, len(facts), CHUNK):
            body = {"edits": list(facts[start : start + CHUNK])}
            ids += self._call("POST", "/edits", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})["ids"]
        return ids

    def finished(self, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Each edit as soon as it is applied or has failed, waiting for all."""
        waiting = set(ids)
        while waiting:
            after = min(waiting) - 1
            while waiting:
                page = self._call("GET", "/edits", params={"after": after, "limit": 500})
                for edit in page["edits"]:
                    if edit["id"] in waiting and edit["state"] not in UNFINISHED:
                        waiting.discard(edit["id"])
                        yield edit
                if page["next"] is None or not page["edits"] or page["edits"][-1]["id"] >= max(waiting, default=0):
                    break
                after = page["edits"][-1]["id"]
            if waiting:
                time.sleep(POLL_INTERVAL_S)

    def ask(self, prompt: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._call("POST", "/generate", json={"prompt": prompt, **options})
        return answer

    def operation(self, method: str, path: str, actor: str, **arguments: Any) -> dict[str, Any]:
        """Ask for something to be taken back; a repeated request changes nothing."""
        headers = {"X-Errata-Actor": actor, "Idempotency-Key": uuid.uuid4().hex}
        found: dict[str, Any] = self._call(method, path, headers=headers, **arguments)
        return found

    def get_operation(self, operation_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", f"/operations/{operation_id}")
        return found

    def revision(self, number: int) -> dict[str, Any]:
        found: list[dict[str, Any]] = self._call("GET", "/revisions", params={"before": number + 1, "limit": 1})["revisions"]
        return found[0]

    def edits(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        return [self._call("GET", f"/edits/{edit_id}") for edit_id in ids]

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", "/stats")
        return found

    def ready(self) -> tuple[bool, str]:
        """(whether it is, what it is waiting for)."""
        try:
            response = self._http.get("/readyz", timeout=5)
            checks = response.json()["checks"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False, "the api is starting"
        waiting = [f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"]]
        return not waiting, "; ".join(waiting)
