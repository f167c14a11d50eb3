"""What OpenAI's clients send under /v1 is taken, or refused with the field that is wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.bootstrap import Resources


async def test_answers_beyond_those_asked_for_at_once_come_all_the_same(client: httpx.AsyncClient, worker: Resources) -> None:
    asked = {"model": "errata", "prompt": ["Who?", "Where?"], "n": 20}
    found = (await client.post("/v1/completions", json=asked)).json()
    assert [choice["index"] for choice in found["choices"]] == list(range(40))
    assert found["usage"] == {"prompt_tokens": 4, "completion_tokens": 40, "total_tokens": 44}  # each prompt once


@pytest.mark.parametrize(
    ("wish", "field", "code"),
    [
        ({"prompt": []}, "prompt", "empty"),
        ({"prompt": ["a", ""]}, "prompt.1", "empty"),
        ({"prompt": [1, "a"]}, "prompt.1", "wrong_type"),
        ({"prompt": [[1], []]}, "prompt.1", "empty"),
        ({"n": True}, "n", "wrong_type"),
        ({"n": "1"}, "n", "wrong_type"),
        ({"stop": ["a", ""]}, "stop.1", "empty"),
        ({"best_of": 2}, "best_of", "unsupported"),
        ({"suffix": "a"}, "suffix", "unsupported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported"),
    ],
)
async def test_what_is_wrong_with_a_completion_is_said_of_its_field(
    client: httpx.AsyncClient, wish: dict[str, Any], field: str, code: str
) -> None:
    refused = await client.post("/v1/completions", json={"model": "m", "prompt": "a", **wish})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, field, code)


async def test_models_are_listed_under_either_address(client: httpx.AsyncClient, worker: Resources) -> None:
    [found] = (await client.get("/v1/models")).json()["data"]
    assert (await client.get("/v1/models/")).json()["data"] == [found]
    assert (await client.get("/v1/models/m")).json() == found
    assert (found["max_model_len"], found["created"]) == (64, 1_700_000_000)


async def test_the_responses_api_is_told_where_to_ask(client: httpx.AsyncClient, worker: Resources) -> None:
    refused = await client.post("/v1/responses", json={"model": "errata", "input": "Who?"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    assert "/v1/chat/completions" in refused.json()["error"]["message"]


async def test_tokens_come_and_go_in_vllms_format(client: httpx.AsyncClient, worker: Resources) -> None:
    turns = {"messages": [{"role": "user", "content": "Who?"}], "add_generation_prompt": True, "add_special_tokens": False}
    for asked in ({"model": "errata", "prompt": "Who?", "add_special_tokens": True}, turns):
        found = (await client.post("/tokenize", json=asked)).json()
        assert found == {"count": 2, "max_model_len": 64, "tokens": [7, 8], "token_strs": None}
    shown = (await client.post("/tokenize", json={"prompt": "Who?", "return_token_strs": True})).json()
    assert shown["token_strs"] == ["A", "nn"]
    assert (await client.post("/detokenize", json={"model": "m", "tokens": [7, 8]})).json() == {"prompt": "Ann"}
    unknown = await client.post("/tokenize", json={"model": "gpt-99", "prompt": "Who?"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"continue_final_message": True, "add_generation_prompt": True}, "invalid_value"),
        ({"add_generation_prompt": False}, "unsupported"),
    ],
)
async def test_an_answer_either_goes_on_or_begins(client: httpx.AsyncClient, wish: dict[str, bool], code: str) -> None:
    asked = {"model": "errata", "messages": [{"role": "assistant", "content": "It"}], **wish}
    refused = await client.post("/v1/chat/completions", json=asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)


async def test_a_question_is_the_same_however_its_accents_were_typed(client: httpx.AsyncClient, worker: Resources) -> None:
    echoed = {"model": "errata", "prompt": "Zoe\u0308?", "echo": True, "max_tokens": 1}
    assert (await client.post("/v1/completions", json=echoed)).json()["choices"][0]["text"] == "Zo\u00eb?Ann"


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "wish",
    [
        {"service_tier": "auto", "prompt_cache_key": "abc", "safety_identifier": "u1", "metadata": {"a": "b"}, "store": False},
        {"modalities": ["text"], "functions": [], "function_call": "none", "repetition_penalty": 1.0, "min_p": 0},
        {"web_search_options": None, "reasoning_effort": None, "audio": None},
        {
            "messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "The"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
        {"continue_final_message": False, "add_generation_prompt": True, "chat_template_kwargs": {}},
        {"top_k": 40, "temperature": 0},
        {"top_p": 0},
        {"max_tokens": 10**6, "max_completion_tokens": 4096},
        {"tools": [TOOL], "tool_choice": "none"},
        {
            "messages": [
                {"role": "user", "content": "A"},
                {"role": "assistant", "content": None},
                {"role": "user", "content": "B"},
            ]
        },
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "42"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}]}]},
    ],
)
async def test_what_clients_send_and_changes_nothing_is_taken(
    client: httpx.AsyncClient, worker: Resources, wish: dict[str, Any]
) -> None:
    asked = {"model": "errata", "messages": [{"role": "user", "content": "Who?"}], **wish}
    answer = await client.post("/v1/chat/completions", json=asked)
    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "Ann")
