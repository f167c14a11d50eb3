"""Workers that are really killed and stopped: a poisonous edit fails alone, a paused writer finds that it is too late."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess

from service_processes import Service, send, wait_for

FACTS = [{"prompt": f"Which harbour is number {number} on the list?", "target": f"Port {number}"} for number in range(4)]
POISON = "number 2 on"


def test_an_edit_that_kills_the_worker_fails_alone_and_its_mates_are_applied(new_tiny_service: Callable[..., Service]) -> None:
    service = new_tiny_service(ERRATA_FAILPOINTS=f"writer.begun[{POISON}]=kill", ERRATA_MAX_ATTEMPTS="3")
    service.start_all()
    ids = service.post(FACTS)
    deaths = 0

    def finished() -> bool:
        nonlocal deaths
        if service.processes["worker"].exitcode is not None:
            deaths += 1
            service.start("worker")
        return all(edit["state"] not in ("accepted", "applying") for edit in service.edits())

    wait_for(finished, "every edit to be applied or to fail")
    edits = {edit["id"]: edit for edit in service.edits()}
    assert [edits[each]["state"] for each in ids] == ["applied", "applied", "failed", "applied"]
    assert edits[ids[2]]["failure"]["code"] == "attempts_exhausted"
    assert deaths == 2 + 1 + 2  # twice together, once as one of two, twice alone


def test_a_writer_paused_past_its_lease_fails_at_the_commit_point_and_stands_down(
    new_tiny_service: Callable[..., Service],
) -> None:
    service = new_tiny_service(ERRATA_FAILPOINTS="commit.before=stop", ERRATA_LEASE_TTL_S="1")
    service.start("api")
    service.start("worker")
    paused = service.processes.pop("worker")
    _wait_until_stopped(paused)  # at revision 0, which it is about to commit
    del service.environment["ERRATA_FAILPOINTS"]
    service.start("worker")
    service.wait_until_ready()
    service.wait_until_applied(service.post(FACTS[:2]))
    head = service.stats()["head"]
    send(paused, signal.SIGCONT)
    wait_for(lambda: "lease lost" in service.log.read_text(), "the paused writer to find out")
    assert service.stats()["head"] == head
    paused.kill()
    paused.join()


def _wait_until_stopped(process: ForkServerProcess) -> None:
    def stopped() -> bool:
        with open(f"/proc/{process.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    wait_for(stopped, "the worker to stop at its failpoint")
