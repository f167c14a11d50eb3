"""Workers that are really killed and stopped while they have questions."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import redis
from service_processes import Service, send, wait_for
from test_serving import events

Start = Callable[..., Service]
ENDLESS = {"max_tokens": 1900, "temperature": 4.0, "seed": 1}  # a random model hardly ever ends this by itself
SOON_S = 60.0  # on a machine that is ten times slower; the deadline is 280 s


def ask(service: Service, prompt: str) -> httpx.Response:
    return service.http.get("/generate", params={"prompt": prompt, "max_tokens": 4})


def questions_in_hands(service: Service) -> int:
    with redis.Redis.from_url(service.environment["REDIS_URL"], decode_responses=True) as client:
        pending = client.xpending(f"{service.environment['ERRATA_REDIS_PREFIX']}:generate", "workers")
        return int(pending["pending"])


def test_a_killed_workers_question_is_answered_by_the_next(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_FAILPOINTS="question.begun[Who?]=kill")
    service.start_all()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, service, "Who?")
        wait_for(lambda: service.processes["worker"].exitcode, "the question to end its worker")
        del service.environment["ERRATA_FAILPOINTS"]
        service.start("worker")
        assert answer.result(SOON_S).status_code == 200


def test_a_question_that_ends_every_worker_is_told_so_and_hurts_no_other(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_FAILPOINTS="question.begun[Poison]=kill")
    service.start_all()
    deaths = 0

    def keep_up() -> bool:
        nonlocal deaths
        if service.processes["worker"].exitcode is not None:
            deaths += 1
            service.start("worker")
        return all(each.done() for each in asked)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, service, prompt) for prompt in ("One", "Poison", "Two", "Three")]
        wait_for(keep_up, "all to be told")
    answers = [each.result() for each in asked]
    assert [each.status_code for each in answers] == [200, 503, 200, 200]
    assert answers[1].json()["code"] == "worker_lost"
    assert deaths <= 3


def test_an_answer_that_is_broken_off_by_its_workers_death_says_so(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_MAX_NEW_TOKENS="100000")
    service.start_all()
    with service.http.stream("GET", "/generate", params={"prompt": "On", "stream": "true", **ENDLESS}, timeout=SOON_S) as said:
        told = events(said.iter_lines())
        next(told)
        service.end("worker", signal.SIGKILL)
        *_, last = told
    assert last["error"]["code"] == "worker_lost"


def test_a_worker_that_is_paused_for_some_seconds_answers_all_the_same(new_tiny_service: Start) -> None:
    service = new_tiny_service(ERRATA_MAX_NEW_TOKENS="100000")
    service.start_all()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.http.get, "/generate", params={"prompt": "On", **ENDLESS})
        wait_for(lambda: questions_in_hands(service), "the worker to have the question")
        send(service.processes["worker"], signal.SIGSTOP)
        wait_for(lambda: not service.stats()["workers"], "its status to have run out")
        send(service.processes["worker"], signal.SIGCONT)
        assert answer.result().status_code == 200
    assert "a question was lost" not in service.log.read_text()
