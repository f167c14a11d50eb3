"""The HTTP door over a real ledger: what is taken, what is refused and how it says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from service.api.app import create_app
from service.bootstrap import Resources, build
from service.domain.messages import GenerateReply, GenerateRequest, WorkerStatus
from service.settings import Settings

FACT = {"prompt": "Who is it?", "target": "Ann"}


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def test_one_edit_is_accepted_and_can_be_looked_up(client: httpx.AsyncClient) -> None:
    accepted = await client.post("/edits", json=FACT)
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == accepted.json()["edits"][0]["url"]
    found = (await client.get(accepted.headers["Location"])).json()
    assert (found["prompt"], found["target"], found["state"], found["attempts"]) == ("Who is it?", "Ann", "accepted", 0)
    assert found["revision"] is None


async def test_many_edits_are_accepted_together_and_paged(client: httpx.AsyncClient) -> None:
    facts = [{"prompt": f"Who is {number}?", "target": "Ann", "rephrases": ["?"], "unrelated": ["!"]} for number in range(5)]
    accepted = await client.post("/edits", json={"edits": facts})
    assert len(accepted.json()["ids"]) == 5
    address, seen = accepted.headers["Location"] + "&limit=2&state=accepted", []
    while address:
        page = (await client.get(address)).json()
        seen += [edit["id"] for edit in page["edits"]]
        address = page["next"]
    assert seen == accepted.json()["ids"]


async def test_an_idempotency_key_makes_repeating_safe(client: httpx.AsyncClient) -> None:
    first, again = [await client.post("/edits", json=FACT, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert first.json()["ids"] == again.json()["ids"]
    assert again.json()["replayed"]
    other = await client.post("/edits", json={**FACT, "target": "Bob"}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


LONG = "x" * 4001
REFUSED: list[tuple[str, Any, int, str]] = [
    ("no target", {"prompt": "Who?"}, 422, "missing_field"),
    ("an unknown field", {**FACT, "subject": "it"}, 422, "unknown_field"),
    ("an unknown field in one of many", {"edits": [FACT, {**FACT, "subject": "it"}]}, 422, "unknown_field"),
    ("a number for a text", {**FACT, "target": 7}, 422, "wrong_type"),
    ("a list for an object", [FACT], 422, "wrong_type"),
    ("an empty prompt", {**FACT, "prompt": ""}, 422, "empty"),
    ("white space alone", {**FACT, "target": " \n\t"}, 422, "empty"),
    ("no edits", {"edits": []}, 422, "empty"),
    ("too many edits", {"edits": [FACT] * 1001}, 422, "too_many"),
    ("a prompt too long", {**FACT, "prompt": LONG}, 422, "too_long"),
    ("a rephrase too long", {**FACT, "rephrases": [LONG]}, 422, "too_long"),
    ("the character U+0000", {**FACT, "target": "a\x00b"}, 422, "forbidden_character"),
    ("a lone surrogate", {**FACT, "target": "\ud800"}, 400, "bad_utf8"),
]


@pytest.mark.parametrize(("body", "status", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_bad_edits_are_refused_with_a_stable_code(client: httpx.AsyncClient, body: Any, status: int, code: str) -> None:
    answer = await client.post("/edits", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert LONG not in answer.text
    assert (await client.get("/edits")).json()["edits"] == []


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"prompt": "Who', 400, "malformed_json"),
        (b'{"prompt": "Who\xff?", "target": "Ann"}', 400, "bad_utf8"),
        (b"", 422, "missing_field"),
        (b'{"prompt": "' + b"x" * 5_000_000 + b'"}', 413, "body_too_large"),
        (b"[" * 100_000, 400, "malformed_json"),
    ],
    ids=["cut off", "not UTF-8", "nothing", "too large", "nested too deep"],
)
async def test_bodies_that_are_no_json_are_refused(client: httpx.AsyncClient, content: bytes, status: int, code: str) -> None:
    answer = await client.post("/edits", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_body_that_does_not_say_its_length_is_read_up_to_the_limit(client: httpx.AsyncClient) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1_000_000
            yield b"x" * 1_000_000

    before = REGISTRY.get_sample_value("errata_requests_refused_total", {"reason": "body_too_large"}) or 0
    answer = await client.post("/edits", content=body(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert read <= 6_000_000
    assert REGISTRY.get_sample_value("errata_requests_refused_total", {"reason": "body_too_large"}) == before + 1


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/edits/999", 404, "edit_not_found"),
        ("/edits/one", 422, "wrong_type"),
        ("/edits/99999999999999999999999", 422, "invalid_value"),
        ("/edits?state=gone", 422, "invalid_value"),
        ("/edits?limit=0", 422, "invalid_value"),
        ("/generate", 422, "missing_field"),
        ("/generate?prompt=%20", 422, "empty"),
        ("/generate?prompt=a%ffb", 400, "bad_utf8"),
        ("/generate?prompt=Who&max_tokens=0", 422, "invalid_value"),
        ("/generate?prompt=Who&max_token=5", 422, "unknown_field"),
        ("/generate?prompt=Who", 503, "model_not_ready"),
        ("/nowhere", 404, "not_found"),
    ],
)
async def test_bad_questions_are_refused_with_a_stable_code(
    client: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (answer.status_code == 503) == ("Retry-After" in answer.headers)


async def test_a_full_queue_says_when_to_come_back(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"max_queued_edits": 1}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client,
    ):
        assert (await client.post("/edits", json=FACT)).status_code == 202
        refused = await client.post("/edits", json=FACT)
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) > 0


async def test_edits_are_accepted_while_redis_is_away(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"redis_url": "unix:///nowhere/valkey.sock"}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client,
    ):
        assert (await client.post("/edits", json=FACT)).status_code == 202
        assert (await client.get("/generate", params={"prompt": "Who?"})).json()["code"] == "storage_unavailable"
        assert (await client.get("/readyz")).json()["checks"]["redis"]["ok"] is False


async def test_without_postgres_nothing_is_accepted_and_the_process_lives(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"database_url": "postgresql://postgres@/errata?host=/nowhere"}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client,
    ):
        refused = await client.post("/edits", json=FACT)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert (await client.get("/livez")).text == "ok"
        assert (await client.get("/metrics")).status_code == 200


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Resources]:
    """Stands in for a worker: takes questions and answers "Ann" (or an error for a prompt that begins with !)."""
    resources = build(settings, "worker")
    status = WorkerStatus("w", 1, "ready", "ready", "m", 5, True, 0)
    await resources.presence.announce(status)

    async def answer() -> None:
        questions = resources.generation.questions("w")
        while True:
            await resources.presence.announce(status)
            for entry, fields in await questions.read(count=10, block_ms=50):
                asked = GenerateRequest.from_json(fields["request"])
                reply = GenerateReply(
                    asked.id, text="Ann", revision=5, prompt_tokens=2, completion_tokens=1, finish_reason="stop"
                )
                if asked.prompt.startswith("!"):
                    reply = GenerateReply(asked.id, error_code=asked.prompt[1:], error_detail="no")
                await resources.generation.reply(asked.reply_to, reply)
                await questions.done(entry)

    task = asyncio.create_task(answer())
    yield resources
    task.cancel()
    await resources.close()


async def test_an_answer_says_its_revision_and_usage(client: httpx.AsyncClient, worker: Resources) -> None:
    expected = {
        "text": "Ann",
        "revision": 5,
        "revisions": [5],
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }
    assert (await client.get("/generate", params={"prompt": "Who?", "chat": "true", "temperature": "0.5"})).json() == expected
    assert (await client.post("/generate", json={"prompt": "Who?", "temperature": 1})).json() == expected


@pytest.mark.parametrize(
    ("code", "status"), [("prompt_too_long", 422), ("revision_not_reached", 409), ("generation_failed", 500)]
)
async def test_a_workers_refusal_reaches_the_asker(
    client: httpx.AsyncClient, worker: Resources, code: str, status: int
) -> None:
    answer = await client.get("/generate", params={"prompt": f"!{code}"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_many_askers_each_get_an_answer(client: httpx.AsyncClient, worker: Resources) -> None:
    answers = await asyncio.gather(*(client.get("/generate", params={"prompt": f"Who is {n}?"}) for n in range(60)))
    assert {answer.status_code for answer in answers} == {200}


async def test_stats_revisions_and_metrics_answer_on_an_empty_ledger(client: httpx.AsyncClient) -> None:
    stats = (await client.get("/stats")).json()
    assert stats["head"] is None
    assert set(stats["edits_by_state"].values()) == {0}
    assert (await client.get("/revisions")).json() == {"revisions": [], "next": None}
    assert "errata_edit_queue_depth 0.0" in (await client.get("/metrics")).text
    assert (await client.get("/readyz")).status_code == 503


async def test_openapi_documents_every_route_with_examples(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert set(schema["paths"]) == {
        "/edits",
        "/edits/{edit_id}",
        "/operations",
        "/operations/{operation_id}",
        "/rollback",
        "/rebuild",
        "/generate",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/models/{model}",
        "/revisions",
        "/stats",
        "/livez",
        "/readyz",
        "/metrics",
    }
    assert schema["components"]["schemas"]["EditIn"]["examples"]
    assert schema["components"]["schemas"]["Problem"]["properties"]["code"]["examples"]
