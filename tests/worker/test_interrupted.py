"""A batch that is interrupted between any two steps is the same batch when it is taken again."""

from __future__ import annotations

import pytest

from service import failpoints
from service.ledger import batches, integrity
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


@pytest.mark.parametrize("point", ["writer.begun", "writer.proposed", "writer.persisted", "commit.before"])
async def test_an_interrupted_batch_is_applied_as_if_it_had_not_been(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    desk, quiet = await new_desk(), await new_desk()
    await quiet.edit(*FACTS[:2])
    die_at(monkeypatch, point)
    with pytest.raises(Killed):
        await desk.edit(*FACTS[:2])
    assert await desk.states() == {1: "applying", 2: "applying"}
    monkeypatch.setattr(failpoints, "_ACTIVE", {})
    await desk.restart()
    await take_again(desk)
    assert await desk.states() == {1: "applied", 2: "applied"}
    assert (await desk.head()).fingerprint == (await quiet.head()).fingerprint
    assert all(count == 0 for count, _ in (await integrity.violations(desk.database)).values())
