"""A worker's parts with scoped edits in this process, over a real ledger, a real object store and the demo model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from editor_core.scoped.answering import Asked, answers
from editor_core.texts import rendered, token_ids
from service.bootstrap import Resources, build
from service.domain.edits import EditRecord, NewEdit
from service.domain.operations import NewOperation, OperationKind, OperationRecord
from service.domain.revisions import Revision
from service.ledger import batches, lease, operations, read
from service.ledger.submit import Quotas, submit
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.scoped.applying import ScopedApplying
from service.worker.scoped.beginning import begin_ledger, follow_or_take_over
from service.worker.scoped.resident import ScopedModel
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.taking_back import ScopedTakingBack
from service.worker.upkeep import Upkeep

OWNER = NewEdit("Who owns Castle Orwin?", "Lady Maren Voss")
NEW_OWNER = NewEdit("who owns castle orwin", "Count Tibor Rask")
MAYOR = NewEdit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater")
PORT = NewEdit("our default api port is", "8443")


def quiet(message: str) -> None:
    """Nobody looks at the progress."""


class Desk:
    """One worker that does one thing after another, when it is told to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.resources: Resources = build(settings, "test")
        self.database, self.objects = self.resources.database, self.resources.objects()
        self.thread = ModelThread()

    async def start(self) -> None:
        """As a process that knows nothing yet."""
        self.resident = await self.thread.run(ScopedModel.load, self.settings, quiet)
        parts = (self.resident, self.thread)
        self.restorer = ScopedRestorer(*parts, self.database, self.objects)
        self.applying = ScopedApplying(*parts, self.resources, self.objects, lambda: None)  # type: ignore[arg-type]
        self.taking_back = ScopedTakingBack(*parts, self.resources, self.objects, quiet, lambda: None)
        self.upkeep = Upkeep(*parts, self.database, self.objects, self.settings)
        held = await lease.acquire(self.database, "desk", 3600)
        assert held is not None
        self.held = held
        await follow_or_take_over(self.restorer, self.taking_back, held)
        await begin_ledger(self.taking_back, held)

    async def restart(self) -> None:
        await lease.release(self.database, self.held)
        await self.start()

    async def edit(self, *facts: NewEdit) -> list[EditRecord]:
        """One batch, carried to its commit."""
        accepted = await submit(self.database, facts, idempotency_key=None, quotas=Quotas(1000))
        batch = await batches.claim(self.database, self.held, 50)
        assert batch is not None
        await self.applying.apply(self.held, batch)
        await self.upkeep.after_revision(self.held)
        return [await read.get_edit(self.database, record.id) for record in accepted.edits]

    async def take_back(self, kind: OperationKind, **what: Any) -> OperationRecord:
        asked = NewOperation(kind, "a test", "to see", **what)
        window = self.settings.rollback_window
        accepted = await operations.accept(self.database, asked, idempotency_key=None, window=window)
        await self.taking_back.carry_out(self.held, accepted.operation.id)
        await self.upkeep.after_revision(self.held)
        return await read.get_operation(self.database, accepted.operation.id)

    async def head(self) -> Revision:
        """What the ledger says, which is what is served."""
        head = await read.head(self.database)
        assert head is not None
        assert head.number == self.resident.revision
        assert head.fingerprint == self.resident.fingerprint(self.resident.served.state)
        assert self.resident.served.state.fingerprint == await self._from_the_ledger(head.number)
        return head

    async def _from_the_ledger(self, number: int) -> str:
        """The fingerprint of the records that the ledger says are in force, added up from nothing."""
        known = await read.records_at(self.database, number)
        state = self.resident.served.state
        assert {edit: entry.record for edit, entry in state.rows()} == known
        return type(state).of(state.rows()).fingerprint

    async def states(self) -> dict[int, str]:
        return {record.id: record.state.value for record in await read.list_edits(self.database)}

    async def said(self, question: str) -> str:
        """A chat answer of what is served."""
        tokenizer = self.resident.tokenizer
        ids = tuple(token_ids(tokenizer, rendered(tokenizer, question, "chat"), "chat"))
        [found] = await self.thread.run(answers, self.resident.model, tokenizer, [Asked(ids, 16)], self.resident.served)
        return found.text

    async def close(self) -> None:
        self.thread.close()
        await self.resources.close()


NewDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def new_desk(
    settings: Settings, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory, servers: Any
) -> AsyncIterator[NewDesk]:
    """Makes desks, each with a ledger of its own; started."""
    made: list[Desk] = []

    async def make(*, starts: bool = True, **changed: Any) -> Desk:
        own: dict[str, Any] = {
            "model": str(demo_folder),
            "database_url": servers.new_database(),
            "object_dir": tmp_path_factory.mktemp("objects"),
            "model_cache_dir": demo_folder.parent,
        }
        desk = Desk(settings.model_copy(update={**own, **changed}))
        made.append(desk)
        if starts:
            await desk.start()
        return desk

    yield make
    for desk in made:
        await desk.close()


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    return await new_desk()
