"""OpenAI's client raises its own kind of error for each thing that can go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from service.api.app import create_app
from service.bootstrap import Resources
from service.domain.access import Scope
from service.ledger.access import add_key
from service.settings import Settings

ASKED: dict[str, Any] = {"model": "errata", "prompt": "Who?"}


@pytest.fixture
async def client(settings: Settings, worker: Resources) -> AsyncIterator[AsyncOpenAI]:
    """Without retries, with a key that may ask; two questions may wait."""
    app = create_app(settings.model_copy(update={"require_keys": True, "max_waiting_generations": 2}))
    _, key = await add_key(worker.database, "test", [Scope.GENERATE])
    async with app.router.lifespan_context(app):
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
        async with AsyncOpenAI(base_url="http://test/v1", api_key=key, max_retries=0, http_client=http) as client:
            yield client


async def test_the_stand_in_answers(client: AsyncOpenAI) -> None:
    assert (await client.completions.create(**ASKED)).choices[0].text == "Ann"


@pytest.mark.parametrize(
    ("wishes", "kind", "status", "code"),
    [
        ({"temperature": 9}, openai.BadRequestError, 400, "invalid_value"),
        ({"model": "gpt-99"}, openai.NotFoundError, 404, "model_not_found"),
        ({"extra_body": {"min_revision": 99}}, openai.ConflictError, 409, "revision_not_reached"),
        ({"n": 3}, openai.RateLimitError, 429, "too_many_questions"),
        ({"prompt": "!prompt_too_long"}, openai.BadRequestError, 400, "prompt_too_long"),
        ({"prompt": "!generation_failed"}, openai.InternalServerError, 500, "generation_failed"),
        ({"prompt": "!generation_timed_out"}, openai.InternalServerError, 504, "generation_timed_out"),
        ({"prompt": "!generation_failed", "stream": True}, openai.InternalServerError, 500, "generation_failed"),
    ],
)
async def test_what_cannot_be_answered(
    client: AsyncOpenAI, wishes: dict[str, Any], kind: type[openai.APIStatusError], status: int, code: str
) -> None:
    with pytest.raises(kind) as error:
        await client.completions.create(**{**ASKED, **wishes})
    assert (error.value.status_code, error.value.code) == (status, code)
    assert ("Retry-After" in error.value.response.headers) == (status == 429)


async def test_an_address_that_is_not_served(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        await client.embeddings.create(model="errata", input="Who?")
    assert error.value.code == "not_found"


async def test_keys_that_are_not_known_or_not_for_asking(client: AsyncOpenAI, worker: Resources) -> None:
    _, other = await add_key(worker.database, "other", [Scope.EDIT])
    for key, kind in (("sk-1", openai.AuthenticationError), (other, openai.PermissionDeniedError)):
        with pytest.raises(kind) as error:
            await client.with_options(api_key=key).completions.create(**ASKED)
        assert error.value.body["message"]  # type: ignore[index]


async def test_an_answer_that_is_broken_off(client: AsyncOpenAI) -> None:
    stream = await client.completions.create(**{**ASKED, "prompt": "An!generation_failed", "stream": True})
    assert (await anext(stream)).choices[0].text == "An"
    with pytest.raises(openai.APIError, match="no") as error:
        await anext(stream)
    assert error.value.code == "generation_failed"
