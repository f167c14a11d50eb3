"""A batch that is interrupted between any two steps is the same batch when it is taken again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service import failpoints
from service.domain.edits import Failure
from service.ledger import batches, integrity
from service.worker import applying
from service.worker.proposing import Proposed, propose
from tests.worker.conftest import FACTS, Desk, NewDesk


class Killed(BaseException):
    """No handler of errors sees it, as none would see kill -9."""


def die_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def die() -> None:
        raise Killed

    monkeypatch.setattr(failpoints, "_ACTIVE", {point: [("", die)]})


async def take_again(desk: Desk) -> None:
    for batch in await batches.take_over_interrupted(desk.database, desk.held, max_tries=9):
        await desk.applying.apply(desk.held, await batches.begin(desk.database, desk.held, batch))


async def refuse_the_second(*arguments: Any) -> Proposed:
    """A proposal whose second edit the model would not learn."""
    resident, thread, records, *others = arguments
    proposed = await propose(resident, thread, records[:1], *others)
    return replace(proposed, failures=tuple(Failure(each.id, "does_not_hold", "it says so", 0) for each in records[1:]))


@pytest.mark.parametrize("point", ["writer.persisted", "commit.before"])
async def test_what_a_batch_refuses_fails_with_its_revision_and_not_before(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    desk = await new_desk("matrix")
    monkeypatch.setattr(applying, "propose", refuse_the_second)
    die_at(monkeypatch, point)
    with pytest.raises(Killed):
        await desk.edit(*FACTS[:2])
    assert await desk.states() == {1: "applying", 2: "applying"}
    monkeypatch.setattr(failpoints, "_ACTIVE", {})
    await desk.restart()
    await take_again(desk)
    assert await desk.states() == {1: "applied", 2: "failed"}
    assert all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())
