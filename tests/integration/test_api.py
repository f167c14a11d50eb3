"""The HTTP door over a real ledger: what is taken, what is refused and how it says so."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from service.api.app import create_app
from service.bootstrap import Resources
from service.settings import Settings

FACT = {"prompt": "Who is it?", "target": "Ann"}


async def test_one_edit_is_accepted_and_can_be_looked_up(client: httpx.AsyncClient) -> None:
    accepted = await client.post("/edits", json=FACT)
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == accepted.json()["edits"][0]["url"]
    found = (await client.get(accepted.headers["Location"])).json()
    assert (found["prompt"], found["target"], found["state"], found["attempts"]) == ("Who is it?", "Ann", "accepted", 0)
    assert found["revision"] is None


async def test_a_subject_and_its_names_are_kept_as_they_were_given(client: httpx.AsyncClient) -> None:
    named = {**FACT, "subject": "the mayor", "aliases": ["her honour", "Ann’s office"]}  # needs not occur in the prompt
    accepted = await client.post("/edits", json={"edits": [named, FACT]})
    first, second = [(await client.get(link["url"])).json() for link in accepted.json()["edits"]]
    assert (first["subject"], first["aliases"]) == ("the mayor", ["her honour", "Ann’s office"])
    assert (second["subject"], second["aliases"], second["scope"], second["rephrase_answers"]) == (None, [], [], [])


async def test_a_target_may_have_as_many_bytes_as_the_refusal_of_more_says(client: httpx.AsyncClient) -> None:
    assert (await client.post("/edits", json={**FACT, "target": "é" * 500})).status_code == 202
    refused = await client.post("/edits", json={**FACT, "target": "é" * 501})
    assert refused.json()["detail"] == "target: must have at most 1000 bytes in UTF-8"


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


async def test_a_fact_is_the_same_however_its_accents_were_typed(client: httpx.AsyncClient) -> None:
    composed = {"prompt": "Who is Zo\u00eb?", "target": "\u304c", "subject": "Zo\u00eb"}
    apart = {name: unicodedata.normalize("NFD", text) for name, text in composed.items()}
    first, again = [await client.post("/edits", json=each, headers={"Idempotency-Key": "k"}) for each in (apart, composed)]
    assert (first.status_code, again.json()["replayed"]) == (202, True)
    found = (await client.get(first.headers["Location"])).json()
    assert {name: found[name] for name in composed} == composed


LONG = "x" * 4001
REFUSED: list[tuple[str, Any, int, str]] = [
    ("no target", {"prompt": "Who?"}, 422, "missing_field"),
    ("an unknown field", {**FACT, "topic": "it"}, 422, "unknown_field"),
    ("an unknown field in one of many", {"edits": [FACT, {**FACT, "topic": "it"}]}, 422, "unknown_field"),
    ("a number for a text", {**FACT, "target": 7}, 422, "wrong_type"),
    ("a list for an object", [FACT], 422, "wrong_type"),
    ("an empty prompt", {**FACT, "prompt": ""}, 422, "empty"),
    ("white space alone", {**FACT, "target": " \n\t"}, 422, "empty"),
    ("no edits", {"edits": []}, 422, "empty"),
    ("too many edits", {"edits": [FACT] * 1001}, 422, "too_many"),
    ("a prompt too long", {**FACT, "prompt": LONG}, 422, "too_long"),
    ("a rephrase too long", {**FACT, "rephrases": [LONG]}, 422, "too_long"),
    ("a target of too many bytes", {**FACT, "target": "é" * 501}, 422, "too_long"),
    ("a subject of white space", {**FACT, "subject": " \n"}, 422, "empty"),
    ("a subject too long", {**FACT, "subject": "x" * 201}, 422, "too_long"),
    ("a name that is empty", {**FACT, "aliases": ["it", ""]}, 422, "empty"),
    ("too many names", {**FACT, "aliases": ["it"] * 11}, 422, "too_many"),
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


HALF = "Hi \ud83d"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": HALF}),
        ("/generate", {"prompt": "Who?", "stop": [HALF]}),
        ("/edits", {**FACT, "rephrases": [HALF]}),
        ("/rollback", {"to_revision": 0, "reason": HALF}),
        ("/v1/completions", {"model": "errata", "prompt": [HALF]}),
        ("/v1/completions", {"model": "errata", "prompt": "Who?", "user": HALF}),
        ("/v1/chat/completions", {"model": "errata", "messages": [{"role": "user", "content": HALF}]}),
        ("/v1/chat/completions", {"model": HALF, "messages": [{"role": "user", "content": "Who?"}]}),
        (
            "/v1/chat/completions",
            {"model": "errata", "messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]},
        ),
        ("/v1/chat/completions", {"model": "errata", "messages": [{"role": "user", "content": "Who?", HALF: 1}]}),
    ],
)
async def test_half_an_emoji_is_refused_wherever_it_stands(client: httpx.AsyncClient, path: str, body: Any) -> None:
    answer = await client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    found = answer.json()
    assert (answer.status_code, found.get("code") or found["error"]["code"]) == (400, "bad_utf8")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"prompt": "Who?", "target": "Ann", "unrelated": ' + b"[" * 400 + b"]" * 400 + b"}", "too_deep"),
        (b'{"prompt": "Who?", "target": ' + b'{"a": ' * 60 + b"1" + b"}" * 60 + b"}", "too_deep"),
        (json.dumps({f"field {number}": 1 for number in range(100_000)}).encode(), "too_many"),
        (json.dumps({"edits": [{"x" * 2_000_000: list(range(1000))}]}).encode(), "missing_field"),
    ],
    ids=["lists", "objects", "fields", "a long name"],
)
async def test_a_body_is_refused_in_few_words_however_it_is_built(client: httpx.AsyncClient, body: bytes, code: str) -> None:
    answer = await client.post("/edits", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert len(answer.json()["errors"]) <= 20
    assert len(answer.content) < 10_000


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
        ("/edits/one", 404, "not_found"),
        ("/edits/99999999999999999999999", 404, "not_found"),
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


async def test_a_method_that_is_not_taken_is_told_those_that_are(client: httpx.AsyncClient) -> None:
    for path, allowed in (("/edits", "GET, POST"), ("/edits/1", "GET, DELETE"), ("/v1/models", "GET")):
        refused = await client.put(path)
        assert (refused.status_code, refused.headers["Allow"]) == (405, allowed)


async def test_a_reason_that_is_not_utf8_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.delete("/edits/1?reason=a%ffb")
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_utf8")


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


async def test_a_revision_that_is_not_on_its_way_is_not_waited_for(client: httpx.AsyncClient, worker: Resources) -> None:
    for method, path, body in (
        ("GET", "/generate?prompt=Who%3F&min_revision=6", None),
        ("POST", "/v1/completions", {"model": "m", "prompt": "Who?", "min_revision": 6}),
    ):
        refused = await client.request(method, path, json=body)
        assert (refused.status_code, "revision_not_reached" in refused.text) == (409, True)
    assert (await client.get("/generate", params={"prompt": "Who?", "min_revision": 5})).status_code == 200


async def test_monitors_ask_without_a_body(client: httpx.AsyncClient) -> None:
    assert (await client.head("/livez")).status_code == 200
    assert (await client.head("/readyz")).status_code == (await client.get("/readyz")).status_code


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
        "/edits/{edit_id}/history",
        "/edits/{edit_id}/retry",
        "/edits/{edit_id}/cancel",
        "/operations",
        "/operations/{operation_id}",
        "/operations/{operation_id}/cancel",
        "/rollback",
        "/rebuild",
        "/generate",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/models/{model}",
        "/tokenize",
        "/detokenize",
        "/revisions",
        "/stats",
        "/livez",
        "/readyz",
        "/metrics",
    }
    assert schema["components"]["schemas"]["EditIn"]["examples"]
    assert schema["components"]["schemas"]["Problem"]["properties"]["code"]["examples"]


async def test_openapi_says_what_errors_look_like_and_where_a_key_is_needed(settings: Settings) -> None:
    plain, keyed = (create_app(settings.model_copy(update={"require_keys": each})).openapi() for each in (False, True))
    answers = keyed["paths"]["/edits"]["post"]["responses"]
    assert list(answers["422"]["content"]) == list(answers["401"]["content"]) == ["application/problem+json"]
    assert "422" not in keyed["paths"]["/v1/completions"]["post"]["responses"]
    open_paths = [
        path for path, operations in keyed["paths"].items() if "security" not in operations.get("get", {"security": 1})
    ]
    assert open_paths == ["/livez", "/readyz", "/metrics"]
    assert "securitySchemes" not in plain["components"]
