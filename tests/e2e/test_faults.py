"""Real processes, really killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import redis
from service_processes import Service, wait_for

FACTS = [{"prompt": f"Which harbour is number {number} on the list?", "target": f"Port {number}"} for number in range(50)]


def run_undisturbed(service: Service) -> dict[str, Any]:
    service.start_all()
    service.wait_until_applied(service.post(FACTS))
    return service.stats()


def test_fifty_edits_in_flight_survive_a_kill_and_end_as_if_nothing_had_happened(
    new_tiny_service: Callable[..., Service],
) -> None:
    undisturbed = run_undisturbed(new_tiny_service())
    service = new_tiny_service()
    service.start_all()
    ids = service.post(FACTS)
    wait_for(lambda: service.stats()["edits_by_state"]["applying"] == len(FACTS), "all 50 to be in flight")
    service.end("worker", signal.SIGKILL)
    assert service.stats()["edits_by_state"]["applying"] == len(FACTS)
    service.start("worker")
    edits = service.wait_until_applied(ids)
    assert {(edit["state"], edit["revision"], edit["attempts"]) for edit in edits} == {("applied", 2, 2)}
    stats = service.stats()
    assert stats["head"]["number"] == 2
    assert stats["head"]["fingerprint"] == undisturbed["head"]["fingerprint"]
    assert [each["n"] for each in stats["statistics"]] == [each["n"] for each in undisturbed["statistics"]]


def test_a_worker_killed_after_its_commits_comes_back_with_the_same_weights(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start_all()
    for fact in FACTS[:3]:
        service.wait_until_applied(service.post([fact]))
    head = service.stats()["head"]
    question = {"prompt": FACTS[0]["prompt"], "min_revision": 4}
    before = service.http.post("/generate", json=question).json()
    service.end("worker", signal.SIGKILL)
    service.start("worker")
    service.wait_until_ready()  # the worker compares fingerprints, and would not become ready with another
    assert service.stats()["head"] == head
    assert service.http.post("/generate", json=question).json() == before
    service.wait_until_applied(service.post(FACTS[3:4]))
    assert service.stats()["head"]["number"] == head["number"] + 1


def test_sigterm_finishes_the_batch_under_way_and_gives_the_lease_back(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start_all()
    service.post(FACTS)
    wait_for(lambda: service.stats()["edits_by_state"]["applying"] == len(FACTS), "all 50 to be in flight")
    assert service.end("worker", signal.SIGTERM) == 0
    stats = service.stats()
    assert {state: count for state, count in stats["edits_by_state"].items() if count} == {"applied": len(FACTS)}
    assert not stats["writer"]["lease_running"]


def test_edits_are_applied_without_a_bell_after_redis_forgot_everything(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start_all()
    client = redis.Redis.from_url(service.environment["REDIS_URL"], decode_responses=True)
    prefix = service.environment["ERRATA_REDIS_PREFIX"]
    client.delete(*client.scan_iter(f"{prefix}:*"))
    service.wait_until_applied(service.post(FACTS[:2]))
    service.wait_until_ready()  # the worker says again that it is there
    answer = service.http.post("/generate", json={"prompt": "Who?", "min_revision": 2})
    assert answer.json()["revision"] == 2


def test_a_second_worker_waits_serves_and_takes_over(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start_all()
    first = service.processes.pop("worker")
    service.start("worker")
    wait_for(lambda: len(service.stats()["workers"]) == 2, "both workers to report")
    wait_for(lambda: all(each["state"] == "ready" for each in service.stats()["workers"]), "both to be ready")
    assert sum(each["writer"] for each in service.stats()["workers"]) == 1
    service.wait_until_applied(service.post(FACTS[:1]))
    wait_for(lambda: {each["revision"] for each in service.stats()["workers"]} == {2}, "the reader to follow")
    first.kill()
    first.join()
    service.wait_until_applied(service.post(FACTS[1:2]))
    assert service.stats()["head"]["number"] == 3


def test_an_edit_that_cannot_be_encoded_fails_alone(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service()
    service.start_all()
    edits = service.wait_until_applied(service.post([FACTS[0], {"prompt": "é" * 3900, "target": "x"}, FACTS[1]]))
    assert [edit["state"] for edit in edits] == ["applied", "failed", "applied"]
    assert edits[1]["failure"]["code"] == "not_encodable"
    assert "tokens" in edits[1]["failure"]["detail"]


def test_a_batch_beyond_the_norm_bound_is_halved_and_each_edit_fails_with_the_reason(
    new_tiny_service: Callable[..., Service],
) -> None:
    service = new_tiny_service()
    service.start_all()
    service.end("worker", signal.SIGTERM)
    service.environment["ERRATA_MAX_UPDATE_NORM"] = "1e-12"  # after the warm-up, which is an update as well
    service.start("worker")
    service.wait_until_ready()
    edits = service.wait_until_applied(service.post(FACTS[:3]))
    assert {(edit["state"], edit["failure"]["code"]) for edit in edits} == {("failed", "update_too_large")}
    assert service.stats()["head"]["number"] == 1
