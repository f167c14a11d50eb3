"""What other clients send by themselves is answered as they read it: recorded_clients.json says how it was written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from service_processes import Service

from tests.conftest import Servers
from tests.e2e.conftest import tiny_service

RECORDED = json.loads((Path(__file__).parent / "recorded_clients.json").read_text())["requests"]
ASKED = [each for each in RECORDED if each["method"] == "POST"]
STREAMED = [each for each in ASKED if each["body"].get("stream")]
WHOLE = [each for each in ASKED if not each["body"].get("stream")]
LISTED = [each for each in RECORDED if each["method"] == "GET"]


@pytest.fixture(scope="module")
def service(servers: Servers, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = tiny_service(servers, tiny_folder, tmp_path_factory.mktemp("recorded"), ERRATA_MAX_NEW_TOKENS="16")
    service.start_all()
    yield service
    service.stop()


def replayed(service: Service, recorded: dict[str, Any]) -> httpx.Response:
    """The answer to exactly what the client sent."""
    body = None if recorded["body"] is None else json.dumps(recorded["body"])
    answer = service.http.request(recorded["method"], recorded["path"], headers=recorded["headers"], content=body)
    assert answer.status_code == 200, answer.text
    return answer


def name(recorded: dict[str, Any]) -> str:
    return f"{recorded['client'].split()[0]}{recorded['path']}"


@pytest.mark.parametrize("recorded", WHOLE, ids=name)
def test_a_whole_answer_has_what_clients_read(service: Service, recorded: dict[str, Any]) -> None:
    answer = replayed(service, recorded).json()
    if "messages" in recorded["body"]:
        chat = ChatCompletion.model_validate(answer, strict=True)
        assert (chat.object, chat.choices[0].message.role) == ("chat.completion", "assistant")
        assert chat.choices[0].message.content
    else:
        assert Completion.model_validate(answer, strict=True).choices[0].text
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


@pytest.mark.parametrize("recorded", STREAMED, ids=name)
def test_a_streamed_answer_has_what_clients_read(service: Service, recorded: dict[str, Any]) -> None:
    answer = replayed(service, recorded)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *events, done, after = answer.text.split("\n\n")
    assert (done, after) == ("data: [DONE]", "")
    chunks = [json.loads(each.removeprefix("data: ")) for each in events]
    wants_usage = (recorded["body"].get("stream_options") or {}).get("include_usage", False)
    counted = [each for each in chunks if each.get("usage")]
    assert counted == (chunks[-1:] if wants_usage else [])
    said = [each["choices"][0] for each in chunks if each["choices"]]
    assert [each["finish_reason"] is not None for each in said] == [False] * (len(said) - 1) + [True]
    if "messages" in recorded["body"]:
        parts = [ChatCompletionChunk.model_validate(each, strict=True).choices for each in chunks]
        assert parts[0][0].delta.role == "assistant"
        assert "".join(each[0].delta.content or "" for each in parts if each)
    else:
        assert "".join(each["text"] for each in said)


@pytest.mark.parametrize("recorded", LISTED, ids=name)
def test_the_models_are_listed_as_clients_read_them(service: Service, recorded: dict[str, Any]) -> None:
    [served] = replayed(service, recorded).json()["data"]
    assert Model.model_validate(served).id


def test_every_client_was_recorded_whole_and_streamed() -> None:
    clients = {each["client"] for each in RECORDED}
    assert len(clients) == 4
    assert {each["client"] for each in WHOLE} == {each["client"] for each in STREAMED} == clients
