"""OpenAI's own client works against a running service unchanged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI
from service_processes import Service, wait_for

from tests.conftest import Servers
from tests.e2e.conftest import tiny_service

CHAT = [{"role": "user", "content": "Who is it?"}]


@pytest.fixture(scope="module")
def service(servers: Servers, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = tiny_service(servers, tiny_folder, tmp_path_factory.mktemp("openai"))
    service.start_all()
    yield service
    service.stop()


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.http.base_url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture
def model(client: OpenAI) -> str:
    [served] = client.models.list().data
    return served.id


def test_the_served_model_is_listed_and_others_are_unknown(client: OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-99")
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-99", messages=CHAT)


def test_a_completion_is_what_generate_says(client: OpenAI, model: str, service: Service) -> None:
    plain = service.http.get("/generate", params={"prompt": "Who is it?", "max_tokens": 8}).json()
    found = client.completions.create(model=model, prompt="Who is it?", max_tokens=8, temperature=0)
    assert found.choices[0].text == plain["text"]
    assert found.choices[0].finish_reason == plain["finish_reason"]
    assert found.usage.model_dump(include=plain["usage"].keys()) == plain["usage"]
    assert found.system_fingerprint == f"errata-r{plain['revision']}"


def test_streamed_chat_says_the_same_and_ends_with_its_usage(client: OpenAI, model: str) -> None:
    wishes = {"model": model, "messages": CHAT, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**wishes)
    chunks = list(client.chat.completions.create(**wishes, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(each.choices[0].delta.content or "" for each in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], whole.usage.total_tokens)
    assert {each.system_fingerprint for each in chunks} == {whole.system_fingerprint}


def test_a_streamed_completion_says_the_same_and_ends_in_done(client: OpenAI, model: str, service: Service) -> None:
    wishes = {"model": model, "prompt": "Who is it?", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**wishes)
    chunks = list(client.completions.create(**wishes, stream=True))
    assert "".join(each.choices[0].text for each in chunks) == whole.choices[0].text
    raw = service.http.post("/v1/completions", json={**wishes, "stream": True}).text
    assert raw.endswith("data: [DONE]\n\n")


def test_logprobs_come_in_both_shapes_and_streamed(client: OpenAI, model: str) -> None:
    text = client.completions.create(model=model, prompt="Who is it?", max_tokens=4, temperature=0, logprobs=3).choices[0]
    assert text.logprobs.tokens == [max(each, key=each.get) for each in text.logprobs.top_logprobs]
    assert text.logprobs.token_logprobs == [max(each.values()) for each in text.logprobs.top_logprobs]
    assert [text.text[at:][:1] for at in text.logprobs.text_offset] == [each[:1] for each in text.logprobs.tokens]
    wishes = {"model": model, "messages": CHAT, "max_tokens": 4, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    chat = client.chat.completions.create(**wishes).choices[0].logprobs.content
    assert [len(each.top_logprobs) for each in chat] == [2] * len(chat)
    assert all(each.top_logprobs[0].logprob == each.logprob <= 0 for each in chat)
    chunks = client.chat.completions.create(**wishes, stream=True)
    streamed = [token for chunk in chunks for token in chunk.choices[0].logprobs.content]
    assert [each.token for each in streamed] == [each.token for each in chat]


def test_echo_scores_the_prompts_own_tokens_whether_texts_or_ids(client: OpenAI, model: str, service: Service) -> None:
    ids = [1, 504, 338, 260, 5]
    found = client.completions.create(model=model, prompt=ids, max_tokens=0, echo=True, logprobs=1).choices[0]
    assert len(found.logprobs.tokens) == len(ids)
    assert found.text == "".join(found.logprobs.tokens)
    assert found.logprobs.token_logprobs[0] is None
    assert all(each < 0 for each in found.logprobs.token_logprobs[1:])
    one_more = client.completions.create(model=model, prompt=ids, max_tokens=1, echo=True, logprobs=1).choices[0]
    assert one_more.logprobs.token_logprobs[1:-1] == pytest.approx(found.logprobs.token_logprobs[1:], abs=1e-4)
    text = client.completions.create(model=model, prompt="Who is it?", max_tokens=0, echo=True).choices[0]
    assert (text.text, text.logprobs) == ("Who is it?", None)


def test_an_echoed_emoji_has_one_place_however_many_tokens_it_is(client: OpenAI, model: str) -> None:
    prompt = "😀😀😀😀 Paris is"
    found = client.completions.create(model=model, prompt=prompt, max_tokens=2, temperature=0, echo=True, logprobs=1)
    text, scored = found.choices[0].text, found.choices[0].logprobs
    assert text.startswith(prompt)
    assert scored.text_offset == sorted(scored.text_offset)
    placed = [each for each in zip(scored.text_offset, scored.tokens, strict=True) if "�" not in each[1]]
    assert [text[at : at + len(token)] for at, token in placed] == [token for _, token in placed]
    assert {*scored.text_offset[: found.usage.prompt_tokens]} == {0, 1, 2, 3, 4, 10}


def test_tokens_that_are_told_are_those_that_are_read(client: OpenAI, model: str, service: Service) -> None:
    turns = [*CHAT, {"role": "assistant", "content": "It is 😀"}]
    for asked, end in (
        ({"prompt": "Who is it? 😀"}, "Who is it? 😀"),
        ({"messages": CHAT}, "assistant\n"),
        ({"messages": turns}, "assistant\nIt is 😀"),
    ):
        told = service.http.post("/tokenize", json={"model": model, **asked}).json()
        door = client.completions if "prompt" in asked else client.chat.completions
        assert told["count"] == len(told["tokens"]) == door.create(model=model, max_tokens=1, **asked).usage.prompt_tokens
        text = service.http.post("/detokenize", json={"model": model, "tokens": told["tokens"]}).json()["prompt"]
        assert text.endswith(end)
    unknown = service.http.post("/detokenize", json={"tokens": [10**6]})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_token")


def test_an_answer_may_be_told_to_begin_after_an_assistants_turn(client: OpenAI, model: str) -> None:
    turns = [*CHAT, {"role": "assistant", "content": "It is"}]
    wishes = {"model": model, "messages": turns, "max_tokens": 1}
    default, goes_on, begins = (
        client.chat.completions.create(**wishes, extra_body=extra).usage.prompt_tokens
        for extra in ({}, {"continue_final_message": True}, {"continue_final_message": False})
    )
    assert default == goes_on < begins


def test_several_prompts_and_choices_come_in_order(client: OpenAI, model: str) -> None:
    one, other = (
        client.completions.create(model=model, prompt=prompt, max_tokens=6, temperature=0).choices[0].text
        for prompt in ("One", "Other")
    )
    found = client.completions.create(model=model, prompt=["One", "Other"], n=2, max_tokens=6, temperature=0)
    assert [each.text for each in found.choices] == [one, one, other, other]
    assert [each.index for each in found.choices] == [0, 1, 2, 3]


def test_a_seed_repeats_what_is_drawn_and_choices_differ(client: OpenAI, model: str) -> None:
    wishes = {"model": model, "messages": CHAT, "max_tokens": 8, "temperature": 1.5, "seed": 5, "n": 2}
    first, again = ([each.message.content for each in client.chat.completions.create(**wishes).choices] for _ in range(2))
    assert first == again
    assert first[0] != first[1]


def test_a_stop_text_ends_the_answer_before_it(client: OpenAI, model: str) -> None:
    wishes = {"model": model, "prompt": "Who is it?", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**wishes).choices[0].text
    stop = whole[len(whole) // 2 :][:3]
    stopped = client.completions.create(**wishes, stop=[stop]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(stop)], "stop")
    chunks = client.completions.create(**wishes, stop=stop, stream=True)
    assert "".join(each.choices[0].text for each in chunks) == stopped.text


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"temperature": 9}, "invalid_value"),
        ({"max_tokens": 0}, "invalid_value"),
        ({"frequency_penalty": 1.0}, "unsupported"),
        ({"tools": [{"type": "function"}]}, "unsupported"),
        ({"tool_choice": "required"}, "unsupported"),
        ({"extra_body": {"top_k": 40}}, "unsupported"),
        ({"messages": []}, "empty"),
        ({"messages": [{"role": "user", "content": "x " * 6000}]}, "prompt_too_long"),
        ({"extra_body": {"best_effort": 1}}, "unknown_field"),
    ],
)
def test_errors_are_those_the_client_knows(client: OpenAI, model: str, wishes: dict[str, object], code: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{"model": model, "messages": CHAT, **wishes})
    assert (error.value.code, error.value.type) == (code, "invalid_request_error")
    assert error.value.body["message"]


def test_a_request_id_is_echoed_or_made(client: OpenAI, model: str, service: Service) -> None:
    mine = client.models.with_raw_response.list(extra_headers={"X-Request-Id": "mine-1"})
    assert mine.headers["X-Request-Id"] == "mine-1"
    made = {service.http.get("/v1/models").headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2


def test_hanging_up_in_the_middle_leaves_a_working_service(client: OpenAI, model: str) -> None:
    for _ in range(3):
        stream = client.completions.create(model=model, prompt="On", max_tokens=500, temperature=2, stream=True)
        with contextlib.closing(stream):
            next(iter(stream))
    assert client.completions.create(model=model, prompt="On", max_tokens=1).choices


def test_without_a_worker_it_is_unavailable(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start("api")
    wait_for(lambda: _alive(service), "the api")
    with (
        OpenAI(base_url=f"{service.http.base_url}/v1", api_key="none", max_retries=0) as alone,
        pytest.raises(openai.InternalServerError) as error,
    ):
        alone.completions.create(model="errata", prompt="x")
    assert (error.value.status_code, error.value.code) == (503, "model_not_ready")
    assert int(error.value.response.headers["Retry-After"]) > 0


def _alive(service: Service) -> bool:
    try:
        return service.http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False
