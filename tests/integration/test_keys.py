"""With keys required, nobody gets further than their key allows, and a revoked key goes nowhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from service.api.app import create_app
from service.api.middleware import access as door
from service.bootstrap import Resources
from service.cli.main import app as command
from service.domain.access import Scope, parts
from service.errors import NotFound
from service.ledger import access
from service.settings import Settings
from tests.conftest import Servers


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


ANY = set(Scope)
LEDGER, OWN = {Scope.READ, Scope.ROLLBACK}, {Scope.READ, Scope.ROLLBACK, Scope.EDIT}
OPENED_BY = {
    "POST /edits": {Scope.EDIT},
    "GET /edits": OWN,
    "GET /edits/{edit_id}": OWN,
    "GET /edits/{edit_id}/history": OWN,
    "POST /edits/{edit_id}/retry": {Scope.EDIT},
    "POST /edits/{edit_id}/cancel": {Scope.EDIT, Scope.ROLLBACK},
    "DELETE /edits/{edit_id}": {Scope.ROLLBACK},
    "POST /rollback": {Scope.ROLLBACK},
    "POST /rebuild": {Scope.ROLLBACK},
    "GET /operations": OWN,
    "GET /operations/{operation_id}": OWN,
    "POST /operations/{operation_id}/cancel": {Scope.ROLLBACK},
    "GET /generate": {Scope.GENERATE},
    "POST /generate": {Scope.GENERATE},
    "POST /v1/completions": {Scope.GENERATE},
    "POST /v1/chat/completions": {Scope.GENERATE},
    "POST /tokenize": {Scope.GENERATE},
    "POST /detokenize": {Scope.GENERATE},
    "GET /v1/models": {Scope.GENERATE},
    "GET /v1/models/{model}": {Scope.GENERATE},
    "GET /revisions": LEDGER,
    "GET /stats": ANY,
    "GET /livez": ANY,
    "GET /readyz": ANY,
    "GET /metrics": ANY,
}


async def test_every_route_opens_for_its_scopes_and_no_other(client: httpx.AsyncClient, resources: Resources) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == set(OPENED_BY)
    for scope in Scope:
        _, shown = await access.add_key(resources.database, scope.value, [scope])
        for route, scopes in OPENED_BY.items():
            method, path = re.sub(r"{\w+}", "1", route).split()
            answer = await client.request(method, path, headers=shown_as(shown))
            assert (answer.status_code != 403) == (scope in scopes | {Scope.ADMIN}), (scope, route, answer.text)
            assert answer.status_code != 401


async def test_a_revoked_key_opens_nothing_from_when_it_is_said(
    client: httpx.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BELIEVED_FOR_S", 3600.0)
    key, shown = await access.add_key(resources.database, "reader", [Scope.GENERATE])
    assert (await client.get("/stats", headers=shown_as(shown))).status_code == 200
    await access.revoke_key(resources.database, key.id)
    async with asyncio.timeout(60):
        while not await resources.revoked.publish(key.id):  # until the api listens
            pass
        while (await client.get("/stats", headers=shown_as(shown))).status_code == 200:
            pass
    assert (await client.get("/stats", headers=shown_as(shown))).status_code == 401


async def test_an_expired_key_opens_nothing(client: httpx.AsyncClient, resources: Resources) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    _, shown = await access.add_key(resources.database, "guest", [Scope.GENERATE], soon)
    assert (await client.get("/stats", headers=shown_as(shown))).status_code == 200
    _, shown = await access.add_key(resources.database, "guest", [Scope.GENERATE], datetime.now(UTC))
    assert (await client.get("/stats", headers=shown_as(shown))).status_code == 401


async def test_a_revoked_key_opens_nothing_when_nobody_says_so(
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


@pytest.fixture
def errata(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, over this test's database."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    return lambda *arguments: CliRunner().invoke(command, ["keys", *arguments])


def test_the_command_makes_lists_and_revokes(errata: Callable[..., Result]) -> None:
    added = errata("add", "Ann", "--scope", "edit", "--scope", "generate")
    shown = added.stdout.strip()  # the key and nothing else: KEY=$(errata keys add Ann)
    id, _ = parts(shown) or ("", "")
    assert id in added.stderr
    assert all(each in errata("list").stdout for each in (id, "Ann", "generate, edit"))
    assert errata("revoke", shown).exit_code == 0  # whoever finds a key somewhere can end it
    again = errata("revoke", id)
    assert (again.exit_code, "no key" in again.output) == (1, True)


def test_a_rotated_key_has_the_name_and_the_scopes_and_the_facts_of_the_other(errata: Callable[..., Result]) -> None:
    id, _ = parts(errata("add", "Ann", "--scope", "edit").stdout.strip()) or ("", "")
    rotated = errata("rotate", id, "--expires-in-days", "30")
    assert "edit, until" in rotated.stderr
    newest = next(line for line in errata("list").stdout.splitlines() if (parts(rotated.stdout.strip()) or ("",))[0] in line)
    assert f"Ann (after {id})" in newest


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add", "Ann", "--scope", "everything"], 2, "'rollback'"),
        (["add", " "], 1, "1 to 100 characters"),
        (["add", "x" * 101], 1, "1 to 100 characters"),
        (["add", "Ann", "--expires-in-days", "0"], 1, "more than 0"),
        (["rotate", "nobody"], 1, "no key nobody"),
        (["revoke", "[red]nobody"], 1, "no key [red]nobody"),
        (["list"], 0, "errata keys add"),
    ],
)
def test_the_command_says_what_is_wrong(errata: Callable[..., Result], arguments: list[str], code: int, said: str) -> None:
    result = errata(*arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_the_command_says_when_there_are_no_tables(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", servers.admin_url)
    result = CliRunner().invoke(command, ["keys", "list"])
    assert (result.exit_code, "errata migrate" in result.output) == (1, True), result.output
