"""Every arrow of an edit's life, crossed with all that can be killed there, Redis kept and wiped: nothing lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from crossing import WITH_WORDS, Crossing
from service_processes import wait_for

AFTER_COMMIT = ("commit.after", "writer.applied", "writer.published", "prune.before", "checkpoint.before")
AT_THE_API = ("api.validated", "submit.before_commit", "submit.after_commit", "api.rung")
WIPED = pytest.mark.parametrize("wiped", [False, True], ids=["redis kept", "redis wiped"])


@pytest.fixture
def crossing(tmp_path: Path, tiny_folder: Path) -> Iterator[Crossing]:
    made = Crossing(tmp_path, tiny_folder)
    yield made
    made.stop()


@WIPED
def test_a_worker_killed_at_any_arrow_loses_and_doubles_nothing(crossing: Crossing, wiped: bool) -> None:
    crossing.start("api")
    for number, point in enumerate((*WITH_WORDS, *AFTER_COMMIT)):
        words = f"number {number} of all"
        crossing.settle(crossing.fact(words))
        more = {"ERRATA_CHECKPOINT_EVERY": "1"} if point == "checkpoint.before" else {}
        crossing.start("worker", f"{point}[{words}]=kill" if point in WITH_WORDS else f"{point}=kill", **more)
        crossing.wait_until_dead("worker", point)
        if wiped:
            crossing.wipe_redis()
    crossing.start("worker", "restore.step=kill")
    crossing.wait_until_dead("worker", "restore.step")
    crossing.settle(crossing.ask("DELETE", f"/edits/{crossing.applied()[0]}"))
    crossing.start("worker", "operation.begun=kill")
    crossing.wait_until_dead("worker", "operation.begun")
    crossing.finish()


@WIPED
def test_an_api_killed_at_any_arrow_is_asked_again_and_accepts_once(crossing: Crossing, wiped: bool) -> None:
    crossing.start("worker")
    for number, point in enumerate(AT_THE_API):
        asked = crossing.fact(f"number {number} of all")
        crossing.start("api", f"{point}=kill")
        wait_for(lambda asked=asked: crossing.send(asked) or crossing.dead("api"), f"the api to die at {point}")
        assert not asked.status
        if wiped:
            crossing.wipe_redis()
    crossing.finish()


def is_stopped(crossing: Crossing, part: str) -> bool:
    return psutil.Process(crossing.running[part].pid).status() == psutil.STATUS_STOPPED


@pytest.mark.parametrize("victim", ["postgres", "redis kept", "redis wiped"])
def test_a_server_killed_while_the_worker_is_at_an_arrow_costs_time_alone(crossing: Crossing, victim: str) -> None:
    crossing.start("api")
    points = ("writer.claimed", "writer.persisted", "commit.before", "commit.after", "writer.applied")
    crossing.start("worker", ", ".join(f"{point}=stop" for point in points))
    asked = crossing.fact("number 0 of all")
    crossing.settle(asked)
    killed = 0

    def finished() -> bool:
        """Whenever the worker has come to an arrow, kill; then let it go on."""
        nonlocal killed
        if is_stopped(crossing, "worker"):
            if killed < len(points) + 1:  # the warm-up passes the two at the commit as well
                crossing.kill(victim)
                killed += 1
            crossing.go_on("worker")
        return bool(crossing.applied())

    wait_for(finished, f"the edit to be applied; log: {crossing.log}")
    assert killed >= len(points)
    crossing.end("worker")
    crossing.finish()


@pytest.mark.parametrize("victim", ["postgres", "redis kept", "redis wiped"])
def test_a_server_killed_while_the_api_is_at_an_arrow_leaves_all_of_a_request_or_nothing(
    crossing: Crossing, victim: str
) -> None:
    crossing.start("worker")
    for number, point in enumerate(("submit.before_commit", "submit.after_commit")):
        crossing.start("api", f"{point}=stop")
        wait_for(crossing.is_up, "the api to be up")
        asked = crossing.fact(f"number {number} of all")
        with ThreadPoolExecutor(1) as executor:
            sent = executor.submit(crossing.send, asked)
            wait_for(lambda: is_stopped(crossing, "api"), f"the api to come to {point}")
            crossing.kill(victim)
            crossing.go_on("api")
            assert sent.result() is (point == "submit.after_commit" or victim != "postgres")
        crossing.end("api")
    crossing.finish()
