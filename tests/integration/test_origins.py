"""What a browser can be made to send is not done, and what its user wants is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.api.app import create_app, server
from service.bootstrap import Resources
from service.domain.access import Scope
from service.ledger.access import add_key
from service.settings import Settings

FACT = {"prompt": "Who is it?", "target": "Ann"}
SITE = "https://chat.example.com"


@asynccontextmanager
async def api(settings: Settings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings.model_copy(update={"allowed_hosts": (), **changes}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8321") as client,
    ):
        yield client


async def posted(client: httpx.AsyncClient, headers: Mapping[str, str]) -> tuple[int, str]:
    answer = await client.post("/edits", json=FACT, headers=headers)
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8321", "127.1.2.3", "[::1]:9", "::1", "localhost."])
async def test_loopback_is_answered_under_all_its_names(settings: Settings, host: str) -> None:
    async with api(settings) as client:
        assert await posted(client, {"Host": host}) == (202, "")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "localhost.evil.example", "127.0.0.1.evil.test", "[::2]", "", "localhost:x"],
)
async def test_a_page_whose_name_points_here_edits_nothing(settings: Settings, host: str) -> None:
    async with api(settings) as client:
        refused = await client.post("/edits", json=FACT, headers={"Host": host, "Origin": f"http://{host}"})
        assert (refused.status_code, refused.json()["code"]) == (421, "host_not_allowed")
        assert "ERRATA_ALLOWED_HOSTS" in refused.json()["detail"]
        assert (await client.get("/edits", headers={"Host": host})).status_code == 421
        assert (await client.get("/edits")).json()["edits"] == []


async def test_one_good_host_of_two_is_not_enough(settings: Settings) -> None:
    async with api(settings) as client:
        two = [("Host", "localhost"), ("Host", "evil.example")]
        assert (await client.get("/edits", headers=two)).status_code == 421


async def test_a_wrong_host_is_told_in_openais_shape(settings: Settings) -> None:
    async with api(settings) as client:
        refused = await client.get("/v1/models", headers={"Host": "evil.example"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({"allowed_hosts": ("errata.lan",)}, "errata.lan:8321"),
        ({"allowed_hosts": ("*.example.com",)}, "errata.example.com"),
        ({"allowed_hosts": ("*",)}, "evil.example"),
        ({"api_host": "127.0.0.9"}, "127.0.0.9"),
        ({"api_host": "0.0.0.0", "published_host": "127.0.0.1"}, "127.0.0.1:8321"),
    ],
)
async def test_other_names_are_answered_where_the_settings_say_so(
    settings: Settings, changes: dict[str, Any], host: str
) -> None:
    async with api(settings, **changes) as client:
        assert await posted(client, {"Host": host}) == (202, "")


async def test_monitors_need_no_name(settings: Settings) -> None:
    async with api(settings) as client:
        for path in ("/livez", "/metrics", "/openapi.json"):
            assert (await client.get(path, headers={"Host": "api:8321"})).status_code == 200


async def test_with_a_key_any_name_will_do_until_the_names_are_set(settings: Settings, resources: Resources) -> None:
    _, key = await add_key(resources.database, "test", [Scope.EDIT])
    headers = {"Authorization": f"Bearer {key}", "Host": "errata.example.com"}
    async with api(settings, api_host="0.0.0.0") as client:
        assert await posted(client, headers) == (202, "")
    async with api(settings, require_keys=True, allowed_hosts=("errata.lan",)) as client:
        assert await posted(client, headers) == (421, "host_not_allowed")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9000", "http://127.0.0.1"])
async def test_a_page_of_another_site_edits_nothing(settings: Settings, origin: str) -> None:
    async with api(settings) as client:
        assert await posted(client, {"Origin": origin}) == (403, "origin_not_allowed")
        assert (await client.delete("/edits/1", headers={"Origin": origin})).json()["code"] == "origin_not_allowed"
        asked = await client.get("/edits", headers={"Origin": origin})
        assert (asked.status_code, "Access-Control-Allow-Origin" in asked.headers) == (200, False)


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8321", "https://127.0.0.1:8321"])
async def test_our_own_page_may_ask(settings: Settings, origin: str) -> None:
    async with api(settings) as client:
        assert await posted(client, {"Origin": origin}) == (202, "")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None])
async def test_a_body_that_no_browser_asks_about_first_is_not_read_as_json(settings: Settings, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    async with api(settings) as client:
        for path in ("/edits", "/rollback", "/rebuild", "/generate"):
            refused = await client.post(path, content=b'{"prompt": "Who?", "target": "Ann"}', headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
            assert "Content-Type: application/json" in refused.json()["detail"]
        refused = await client.post("/v1/completions", content=b"{}", headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert (await client.get("/edits")).json()["edits"] == []


async def test_a_site_that_may_ask_is_told_so_before_and_after(settings: Settings) -> None:
    asking = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-stainless-lang",
    }
    async with api(settings, cors_origins=(SITE,), require_keys=True) as client:
        before = await client.options("/v1/chat/completions", headers=asking)
        assert (before.status_code, before.headers["Access-Control-Allow-Origin"]) == (200, SITE)
        assert before.headers["Access-Control-Allow-Headers"] == asking["Access-Control-Request-Headers"]
        assert "DELETE" in before.headers["Access-Control-Allow-Methods"]
        other = await client.options("/edits", headers={**asking, "Origin": "https://evil.example"})
        assert (other.status_code, "Access-Control-Allow-Origin" in other.headers) == (400, False)
        refused = await client.post("/edits", json=FACT, headers={"Origin": SITE})
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, SITE)  # a page can read why


async def test_what_a_page_may_read_of_an_answer_is_what_answers_have(settings: Settings) -> None:
    async with api(settings, cors_origins=(SITE,), rate_limit_edits="5/minute", max_queued_edits=1) as client:
        accepted, full = [await client.post("/edits", json=FACT, headers={"Origin": SITE}) for _ in range(2)]
        assert (accepted.status_code, full.status_code) == (202, 429)
        exposed = set(accepted.headers["Access-Control-Expose-Headers"].lower().split(", "))
        assert exposed <= {*accepted.headers, *full.headers}
        assert await posted(client, {"Origin": "https://evil.example"}) == (403, "origin_not_allowed")


async def test_any_site_may_ask_where_the_settings_say_so(settings: Settings) -> None:
    async with api(settings, cors_origins=("*",)) as client:
        answer = await client.post("/edits", json=FACT, headers={"Origin": "https://anything.example"})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (202, "*")


async def test_a_question_about_methods_is_answered_without_cors(settings: Settings) -> None:
    asking = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    async with api(settings) as client:
        answer = await client.options("/v1/chat/completions", headers=asking)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert (await client.options("/edits")).headers["Allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("trusted", "answered"),
    [((), [202, 429]), (("10.0.0.0/8",), [202, 202]), (("10.9.9.9",), [202, 429])],
)
async def test_a_forwarded_address_is_believed_of_set_proxies_alone(
    settings: Settings, trusted: tuple[str, ...], answered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    config = server(settings.model_copy(update={"trusted_proxies": trusted, "rate_limit_edits": "1/minute"})).config
    config.load()
    async with (
        config.app.router.lifespan_context(config.app),  # type: ignore[union-attr]
        httpx.AsyncClient(
            transport=httpx.ASGITransport(config.loaded_app, client=("10.1.2.3", 4)), base_url="http://test"
        ) as client,
    ):
        found = [await posted(client, {"X-Forwarded-For": f"203.0.113.{each}"}) for each in range(2)]
    assert [status for status, _ in found] == answered


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies="proxy.lan")
