"""With keys required, nobody gets further than their key allows, and a revoked key goes nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from service.api import access as door
from service.api.app import create_app
from service.bootstrap import Resources
from service.domain.access import Scope
from service.errors import NotFound
from service.ledger import access
from service.settings import Settings


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings.model_copy(update={"require_keys": True}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


def shown_as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_without_a_key_only_health_and_the_description_answer(client: httpx.AsyncClient) -> None:
    for path in ("/edits", "/stats", "/generate?prompt=Who", "/v1/models", "/nowhere"):
        refused = await client.get(path)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (await client.get("/v1/models")).json()["error"]["type"] == "authentication_error"
    for path in ("/livez", "/metrics", "/openapi.json"):
        assert (await client.get(path)).status_code == 200


async def test_a_key_opens_what_its_scopes_say(client: httpx.AsyncClient, resources: Resources) -> None:
    _, generate = await access.add_key(resources.database, "reader", [Scope.GENERATE])
    _, edit = await access.add_key(resources.database, "editor", [Scope.EDIT])
    fact = {"prompt": "Who is it?", "target": "Ann"}
    assert (await client.post("/edits", json=fact, headers=shown_as(generate))).status_code == 403
    assert (await client.post("/edits", json=fact, headers=shown_as(edit))).status_code == 202
    assert (await client.get("/generate?prompt=Who", headers=shown_as(edit))).json()["code"] == "forbidden"
    assert (await client.get("/generate?prompt=Who", headers=shown_as(generate))).json()["code"] == "model_not_ready"
    assert (await client.get("/stats", headers=shown_as(generate))).status_code == 200
    assert (await client.get("/stats", headers=shown_as(generate + "0"))).status_code == 401


async def test_a_revoked_key_opens_nothing(
    client: httpx.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BELIEVED_FOR_S", -1.0)
    key, shown = await access.add_key(resources.database, "reader", [Scope.GENERATE])
    assert (await client.get("/stats", headers=shown_as(shown))).status_code == 200
    await access.revoke_key(resources.database, key.id)
    assert (await client.get("/stats", headers=shown_as(shown))).status_code == 401
    with pytest.raises(NotFound):
        await access.revoke_key(resources.database, key.id)


async def test_keys_are_listed_without_their_secrets(resources: Resources) -> None:
    key, shown = await access.add_key(resources.database, "reader", [Scope.EDIT, Scope.GENERATE])
    [found] = await access.list_keys(resources.database)
    assert (found.id, found.scopes) == (key.id, (Scope.GENERATE, Scope.EDIT))
    assert shown.rpartition("_")[2] not in repr(found)
