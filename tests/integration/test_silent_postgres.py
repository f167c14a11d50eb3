"""A Postgres that says nothing (stopped, not gone) is one that is away: nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import true

from service.errors import StorageUnavailable
from service.infra.migrate import migrate
from service.infra.postgres import Database, UnitOfWork, create_engine
from service.ledger import read
from service.local.postgres import EmbeddedPostgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    own = EmbeddedPostgres(tmp_path)
    url = own.start()
    migrate(url)
    process = psutil.Process(own.pid())
    yield url, process
    for each in everybody(process):
        with contextlib.suppress(psutil.NoSuchProcess):  # a session that has ended meanwhile
            each.resume()
    process.send_signal(signal.SIGINT)
    process.wait(20)


def everybody(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


async def test_what_waits_for_a_silent_server_hears_that_it_is_away_and_goes_on_when_it_is_back(
    server: tuple[str, psutil.Process],
) -> None:
    url, process = server
    database = Database(create_engine(url, "test", answer_limit_s=1.0))
    await read.queue(database)
    for each in everybody(process):
        each.suspend()
    async with asyncio.timeout(30):  # it would wait for ever
        with pytest.raises(StorageUnavailable):
            await read.ping(database)
        found = await asyncio.gather(*(read.queue(database) for _ in range(30)), return_exceptions=True)
    assert {type(each) for each in found} == {StorageUnavailable}
    for each in everybody(process):
        each.resume()
    assert (await read.queue(database)).depth == 0
    await database.close()


EVENTS = 50_000  # more than fit into a page, or into a socket
FILLED = f"""
    INSERT INTO submissions (body_hash) VALUES ('x');
    INSERT INTO revisions (number, kind, epoch, fingerprint, config_hash, norms, passes, rows, edit_ids, edits_hash,
        previous_hash, row_hash, created_at) VALUES (0, 'base', 1, '', '', '{{}}', 0, 0, '[]', '', '', '', now());
    INSERT INTO edits (submission_id, prompt, target, state)
        SELECT 1, 'Who?', 'Ann', 'accepted' FROM generate_series(1, {EVENTS});
    INSERT INTO edit_events (edit_id, revision, event, record_object) SELECT id, 0, 'applied', repeat('a', 64) FROM edits;
"""


async def pages(work: UnitOfWork) -> AsyncIterator[object]:
    async for each in work.repository._records(true()):
        yield each


@pytest.mark.parametrize("streamed", [pages, lambda work: work.repository.copy_out("edit_events")])
async def test_a_long_answer_that_stops_in_the_middle_is_given_up(
    server: tuple[str, psutil.Process], streamed: Callable[[UnitOfWork], AsyncIterator[object]]
) -> None:
    url, process = server
    with psycopg.connect(url) as connection:
        connection.execute(FILLED)
    database, seen = Database(create_engine(url, "test", answer_limit_s=1.0)), 0

    async def read_on() -> None:
        nonlocal seen
        async with database.snapshot() as work:
            async for _ in streamed(work):
                seen += 1
                if seen == 1:
                    for each in everybody(process):
                        each.suspend()

    async with asyncio.timeout(30):
        with pytest.raises(StorageUnavailable):
            await read_on()
    assert 0 < seen < EVENTS
    for each in everybody(process):
        each.resume()
    assert (await read.queue(database)).depth == EVENTS
    await database.close()
