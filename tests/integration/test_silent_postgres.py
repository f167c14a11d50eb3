"""A Postgres that says nothing (stopped, not gone) is one that is away: nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.errors import StorageUnavailable
from service.infra.migrate import migrate
from service.infra.postgres import Database, create_engine
from service.ledger import read
from service.local.postgres import EmbeddedPostgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    own = EmbeddedPostgres(tmp_path)
    url = own.start()
    migrate(url)
    process = psutil.Process(own.pid())
    yield url, process
    for each in (process, *process.children(recursive=True)):
        each.resume()
    process.send_signal(signal.SIGINT)
    process.wait(20)


async def test_what_waits_for_a_silent_server_hears_that_it_is_away_and_goes_on_when_it_is_back(
    server: tuple[str, psutil.Process],
) -> None:
    url, process = server
    database = Database(create_engine(url, "test", answer_limit_s=1.0))
    await read.queue(database)
    everybody = [process, *process.children(recursive=True)]
    for each in everybody:
        os.kill(each.pid, signal.SIGSTOP)
    async with asyncio.timeout(30):  # it would wait for ever
        with pytest.raises(StorageUnavailable):
            await read.ping(database)
        found = await asyncio.gather(*(read.queue(database) for _ in range(30)), return_exceptions=True)
    assert {type(each) for each in found} == {StorageUnavailable}
    for each in everybody:
        os.kill(each.pid, signal.SIGCONT)
    assert (await read.queue(database)).depth == 0
    await database.close()
