"""Many ask at once, some leave, and the weights change under them: nobody's answer is lost, cut or mixed in silence."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from service_processes import Service, wait_for

Start = Callable[..., Service]
LONG = {"max_tokens": 150, "temperature": 2.0}  # a random model that is asked like this hardly ever ends by itself


@pytest.fixture
def service(new_tiny_service: Start) -> Service:
    service = new_tiny_service(ERRATA_MAX_RUNNING="3")
    service.start_all()
    return service


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def streamed(service: Service, **question: Any) -> list[dict[str, Any]]:
    with service.http.stream("GET", "/generate", params={"stream": "true", **question}) as response:
        assert response.status_code == 200, response.read()
        return list(events(response.iter_lines()))


def test_more_askers_than_places_all_get_their_own_answer(service: Service) -> None:
    alone = {n: service.http.get("/generate", params={"prompt": f"Number {n}", "max_tokens": 16}).json() for n in range(12)}
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda n: streamed(service, prompt=f"Number {n}", max_tokens=16), range(12)))
    for n, pieces in enumerate(together):
        assert "".join(piece["text"] for piece in pieces[:-1]) + pieces[-1]["text"] == alone[n]["text"]
        assert {**pieces[-1], "text": ""} == {**alone[n], "text": ""}


def test_a_client_that_hangs_up_frees_its_place(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_MAX_RUNNING="1", ERRATA_MAX_NEW_TOKENS="100000", ERRATA_GENERATE_TIMEOUT_S="60")
    service.start_all()
    endless = {"prompt": "On and on", "stream": "true", "max_tokens": 1900, "temperature": 4.0}
    for _ in range(3):
        with service.http.stream("GET", "/generate", params=endless) as response:
            next(events(response.iter_lines()))
    answer = service.http.get("/generate", params={"prompt": "Now me", "max_tokens": 4})
    assert answer.status_code == 200, answer.text


def test_answers_under_way_name_every_revision_that_had_a_part(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_DRAIN_LIMIT_S="0")
    service.start_all()
    first = service.http.get("/generate", params={"prompt": "Now", "max_tokens": 1}).json()["revision"]

    def ask_on(seed: int) -> list[dict[str, Any]]:
        answers = []
        while not answers or answers[-1]["revision"] == first:
            answers.append(streamed(service, prompt="Tell", seed=seed, **LONG)[-1])
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on, seed) for seed in range(4)]
        service.wait_until_applied(service.post([{"prompt": "Who is it?", "target": "Ann"}]))
        answers = [answer for each in asking for answer in each.result()]
    assert {tuple(answer["revisions"]) for answer in answers} <= {(first,), (first, first + 1), (first + 1,)}
    assert any(answer["revisions"] == [first, first + 1] for answer in answers)


def test_within_the_limit_answers_finish_on_the_revision_they_began_with(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_DRAIN_LIMIT_S="120")
    service.start_all()

    def ask_on(seed: int) -> list[list[int]]:
        found = []
        while len(found) < 3 or found[-1] == found[0]:
            found.append(streamed(service, prompt="Tell", seed=seed, **LONG)[-1]["revisions"])
        return found

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on, seed) for seed in range(4)]
        service.wait_until_applied(service.post([{"prompt": "Who is it?", "target": "Ann"}]))
        revisions = [each for asked in asking for each in asked.result()]
    assert all(len(each) == 1 for each in revisions)


def test_a_full_house_says_when_to_come_back(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_MAX_WAITING_GENERATIONS="2", ERRATA_MAX_RUNNING="1")
    service.start_all()

    def ask(seed: int) -> httpx.Response:
        return service.http.get("/generate", params={"prompt": "Tell", "seed": seed, **LONG})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(429, "too_many_questions")}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert len(refused) < 7


def test_a_deadline_reaches_the_model(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_GENERATE_TIMEOUT_S="1", ERRATA_MAX_NEW_TOKENS="100000", ERRATA_KEPT_TOKENS="100000")
    service.start_all()
    answer = service.http.get("/generate", params={"prompt": "Tell", "max_tokens": 1900, "temperature": 4.0, "seed": 1})
    assert answer.status_code == 504, answer.text[-300:]
    assert answer.json()["code"] == "generation_timed_out"
    assert service.http.get("/generate", params={"prompt": "Now me", "max_tokens": 1}).status_code == 200


def test_a_reader_follows_the_writer_and_answers_without_it(new_tiny_service: Start) -> None:
    service = new_tiny_service()
    service.start_all()
    reader = Service(
        {**service.environment, "ERRATA_WORKER_ROLE": "reader", "ERRATA_WORKER_NAME": "reader"}, service.log.parent
    )
    reader.start("worker")
    try:
        wait_for(
            lambda: "reader" in [each["name"] for each in service.stats()["workers"] if each["state"] == "ready"], "a reader"
        )
        service.wait_until_applied(service.post([{"prompt": "Who is it?", "target": "Ann"}]))
        before = service.http.get("/generate", params={"prompt": "Who is it?", "min_revision": 2, "max_tokens": 8}).json()
        service.end("worker", signal.SIGTERM)
        after = service.http.get("/generate", params={"prompt": "Who is it?", "min_revision": 2, "max_tokens": 8}).json()
        assert after == before
    finally:
        reader.stop()
