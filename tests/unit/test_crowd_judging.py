"""What a crowd may leave behind."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.crowd.judging import LEFT, READ, REFUSED, Wave, promises
from bench.crowd.watching import FILES, MEMORY, SERVED, TASKS, Sample

QUIET = {("api", name): 0.0 for name in SERVED} | {("api", MEMORY): 1e8, ("api", FILES): 20.0, ("api", TASKS): 9.0}
COUNTS = Counter({READ: 9, LEFT: 2, REFUSED: 3})


def broken(after: dict[tuple[str, str], float], counts: Counter[str] = COUNTS, failures: tuple[str, ...] = ()) -> list[str]:
    waves = [Wave(COUNTS, (), Sample(QUIET)), Wave(counts, failures, Sample(QUIET | after))]
    return [each.name.partition(" ")[0] for each in promises(Sample(QUIET), waves, ["api"]) if each.broken]


def test_a_service_as_quiet_as_before_keeps_every_promise() -> None:
    assert broken({}) == []


@pytest.mark.parametrize(
    ("metric", "value", "first_word"),
    [("errata_open_questions", 1, "nothing"), (TASKS, 40, "no"), (FILES, 90, "no"), (MEMORY, 2e8, "memory")],
)
def test_whatever_is_left_or_grows_is_found(metric: str, value: float, first_word: str) -> None:
    assert broken({("api", metric): value}) == [first_word]


def test_an_error_is_a_broken_promise() -> None:
    assert broken({}, failures=("1 × read to the end: 500",)) == ["answers"]


def test_a_crowd_that_nobody_had_to_refuse_proves_nothing() -> None:
    calm = Counter({READ: 9, LEFT: 2})
    waves = [Wave(calm, (), Sample(QUIET))]
    assert promises(Sample(QUIET), waves, ["api"])[0].broken == [f"nobody was: {REFUSED}"]
