"""A body that would take long to read, or to say what is wrong with it, is refused before: everybody else waits meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.api.problems import MOST_VALUES
from service.api.schemas.texts import MOST_ITEMS, MOST_UNKNOWN
from service.settings import Settings


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client,
    ):
        yield client


FACT = {"prompt": "Who is it?", "target": "Ann"}
MANY = json.dumps({"edits": [[1] * 1000] * (MOST_VALUES // 1000)}, separators=(",", ":"))


async def test_very_many_values_are_refused_without_being_read(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object, **others: object) -> None:
        raise AssertionError("read")

    with monkeypatch.context() as patched:
        patched.setattr("starlette.requests.json.loads", read)
        refused = await client.post("/edits", content=MANY, headers={"Content-Type": "application/json"})
        of_openai = await client.post("/v1/completions", content=MANY, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many")
    assert (of_openai.status_code, of_openai.json()["error"]["code"]) == (400, "too_many")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**FACT, "rephrases": ["Who?"] * (MOST_ITEMS + 1)}, "too_many"),
        ({"edits": [{}] * (MOST_ITEMS + 1)}, "too_many"),
        ({**FACT, **dict.fromkeys(map(str, range(MOST_UNKNOWN + 1)))}, "unknown_field"),
    ],
)
async def test_of_very_many_mistakes_one_is_told(client: httpx.AsyncClient, body: dict[str, Any], code: str) -> None:
    refused = await client.post("/edits", json=body)
    assert refused.status_code == 422
    assert {each["code"] for each in refused.json()["errors"]} == {code}


async def test_a_body_of_the_greatest_size_with_as_many_edits_as_may_be_is_taken(client: httpx.AsyncClient) -> None:
    facts = [{**FACT, "prompt": f"Who, {number}, is it? " + "and what else, by the way, " * 140} for number in range(1000)]
    accepted = await client.post("/edits", json={"edits": facts})
    assert len(accepted.request.content) > 3_500_000
    assert accepted.status_code == 202
