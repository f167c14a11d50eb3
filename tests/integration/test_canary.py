"""No key, password or prompt gets into a log or into the words of an error, whichever way a request fails."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx
import pytest
from sqlalchemy import make_url

from service.bootstrap import Resources
from service.domain.access import Scope
from service.ledger import access
from service.settings import Settings
from tests.e2e.service_processes import free_port, wait_for

PASSWORD, PROMPT, BOOM = (f"{name}{secrets.token_hex(8)}" for name in ("password", "prompt", "boom"))
# The api, with an address that fails as a defect would, with everything secret in its words.
API = f"""
from service.api import health
@health.router.get("/boom", include_in_schema=False)
async def boom(prompt: str, url: str):
    raise RuntimeError(f"{{url}} does not answer; Authorization: Bearer {BOOM}")
from service.cli.main import app
app(["api"])
"""


class Api:
    """A process of its own, whose standard output and error are kept."""

    def __init__(self, folder: Path, **environment: str) -> None:
        port = free_port()
        self.log, self.said = folder / f"api-{port}.log", ""
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", API],
                env={**os.environ, **environment, "ERRATA_API_PORT": str(port), "ERRATA_REQUIRE_KEYS": "true"},
                stdout=output,
                stderr=output,
            )
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=60, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def __enter__(self) -> Self:
        wait_for(self._is_there, "the api to answer")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self.http.close()

    def _is_there(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def status(self, method: str, path: str, **how: object) -> int:
        answer = self.http.request(method, path, **how)  # type: ignore[arg-type]
        self.said += answer.text + str(answer.headers)
        return answer.status_code

    def end(self) -> str:
        """Everything that it has written and answered."""
        self._process.terminate()
        self._process.wait(30)
        return self.log.read_text() + self.said


@pytest.fixture(params=["text", "json"])
def environment(request: pytest.FixtureRequest, settings: Settings) -> dict[str, str]:
    url = make_url(settings.database_url).set(password=PASSWORD)
    return {
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "REDIS_URL": settings.redis_url,
        "ERRATA_REDIS_PREFIX": settings.redis_prefix,
        "ERRATA_DATA_DIR": str(settings.data_dir),
        "ERRATA_LOG_FORMAT": request.param,
        "ERRATA_RATE_LIMIT_EDITS": "20/minute",
    }


async def test_nothing_secret_is_said_on_any_way_that_a_request_fails(
    environment: dict[str, str], tmp_path: Path, worker: Resources, resources: Resources
) -> None:
    _, shown = await access.add_key(resources.database, "ann", [Scope.GENERATE, Scope.EDIT, Scope.READ])
    with Api(tmp_path, **environment) as api:
        await asyncio.to_thread(fail_in_every_way, api, shown, environment["DATABASE_URL"])


def fail_in_every_way(api: Api, shown: str, url: str) -> None:
    secret = shown.rpartition("_")[2]
    key = {"Authorization": f"Bearer {shown}"}
    raw = {**key, "Content-Type": "application/json"}
    fact = {"prompt": PROMPT, "target": PROMPT}
    found = {
        "malformed": api.status("POST", "/edits", headers=raw, content=f'{{"prompt": "{PROMPT}'),
        "not UTF-8": api.status("POST", "/edits", headers=raw, content=f'{{"prompt": "{PROMPT}\xff"}}'.encode("latin-1")),
        "unknown field": api.status("POST", "/edits", headers=key, json={**fact, "more": PROMPT}),
        "wrong type": api.status("POST", "/v1/chat/completions", headers=key, json={"messages": PROMPT, "model": "errata"}),
        "too long": api.status("POST", "/generate", headers=key, json={"prompt": PROMPT * 1000}),
        "too large": api.status("POST", "/edits", headers=raw, content=PROMPT * 400_000),
        "unknown key": api.status("GET", "/stats", headers={"Authorization": f"Bearer {shown[:-4]}0000"}),
        "another scheme": api.status("GET", "/stats", headers={"Authorization": f"Basic {secret}"}),
        "no scope": api.status("POST", "/rollback", headers=key, json={"to_revision": 1, "reason": PROMPT}),
        "no edit": api.status("GET", "/edits/99999", headers=key),
        "no address": api.status("GET", f"/nowhere?{PROMPT}", headers=key),
        "wrong method": api.status("PUT", "/edits", headers=key, json=fact),
        "not reached": api.status("POST", "/generate", headers=key, json={"prompt": PROMPT, "min_revision": 99}),
        "worker failed": api.status("POST", "/generate", headers=key, json={"prompt": f"{PROMPT}!generation_failed"}),
        "broken off": api.status(
            "POST", "/generate", headers=key, json={"prompt": "So!generation_failed", "stop": [PROMPT], "stream": True}
        ),
        "defect": api.status("GET", "/boom", headers=key, params={"prompt": PROMPT, "url": url}),
    }
    with api.http.stream("POST", "/generate", headers=key, json={"prompt": PROMPT, "stream": True}):
        pass  # hung up
    for _ in range(25):
        limited = api.status("POST", "/edits", headers=key, json={**fact, "more": PROMPT})
    everything = api.end()
    assert {**found, "limited": limited} == {
        "malformed": 400,
        "not UTF-8": 400,
        "unknown field": 422,
        "wrong type": 400,
        "too long": 422,
        "too large": 413,
        "unknown key": 401,
        "another scheme": 401,
        "no scope": 403,
        "no edit": 404,
        "no address": 404,
        "wrong method": 405,
        "not reached": 409,
        "worker failed": 500,
        "broken off": 200,
        "defect": 500,
        "limited": 429,
    }
    assert "does not answer" in everything, "the defect is in the log"
    assert "Exception in ASGI application" in everything, "as uvicorn says it too"
    for name, canary in {"the key": secret, "the password": PASSWORD, "a prompt": PROMPT, "a header": BOOM}.items():
        assert canary not in everything, name


async def test_nothing_secret_is_said_while_stores_are_away(environment: dict[str, str], tmp_path: Path) -> None:
    away = {
        "DATABASE_URL": f"postgresql://errata:{PASSWORD}@127.0.0.1:1/errata",
        "REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1",
    }
    with Api(tmp_path, **{**environment, **away}) as api:
        await asyncio.to_thread(fail_without_stores, api)


def fail_without_stores(api: Api) -> None:
    secret = "5e" * 24
    key = {"Authorization": f"Bearer errata_0a0a0a0a_{secret}"}
    found = [
        api.status("POST", "/edits", headers=key, json={"prompt": PROMPT, "target": PROMPT}),
        api.status("POST", "/generate", headers=key, json={"prompt": PROMPT}),
        api.status("GET", "/readyz"),
    ]
    everything = api.end()
    assert found == [503, 503, 503]
    assert "Connection refused" in everything
    for name, canary in {"the key": secret, "the password": PASSWORD, "a prompt": PROMPT}.items():
        assert canary not in everything, name
