"""A worker's parts in this process, over a real ledger and a real object store: what they do can be looked at from inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import Resources, build
from service.domain.edits import EditRecord, NewEdit
from service.domain.operations import NewOperation, OperationKind, OperationRecord
from service.domain.revisions import Revision
from service.ledger import batches, lease, operations, read
from service.ledger.submit import Quotas, Submission, submit
from service.settings import Settings
from service.worker.applying import Applying
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.restore import Restorer
from service.worker.taking_back import TakingBack
from service.worker.upkeep import Upkeep
from service.worker.warmup import begin_ledger, warm_up
from tests.conftest import TINY_MODULES

FACTS = [NewEdit(f"Which harbour is number {number} on the list?", f"Port {number}") for number in range(12)]


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
        self.resident = await self.thread.run(ResidentModel.load, self.settings, quiet)
        parts = (self.resident, self.thread)
        self.restorer = Restorer(*parts, self.database, self.objects)
        self.applying = Applying(*parts, self.resources, self.objects, lambda: None)
        self.taking_back = TakingBack(*parts, self.resources, self.objects, quiet, lambda: None)
        self.upkeep = Upkeep(*parts, self.database, self.objects, self.settings)
        await self.restorer.follow()
        held = await lease.acquire(self.database, "desk", 3600)
        assert held is not None
        self.held = held
        await begin_ledger(*parts, self.database, held)
        await warm_up(*parts, self.database, self.objects, held, self.settings, quiet)

    async def restart(self) -> None:
        await lease.release(self.database, self.held)
        await self.start()

    async def accept(self, *facts: NewEdit) -> Submission:
        return await submit(self.database, facts, idempotency_key=None, quotas=Quotas(1000))

    async def edit(self, *facts: NewEdit) -> list[EditRecord]:
        """One batch, carried to its commit."""
        accepted = await self.accept(*facts)
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

    async def subtract(self, edit_id: int) -> OperationRecord:
        return await self.take_back(OperationKind.SUBTRACT, edit_id=edit_id)

    async def rollback(self, number: int) -> OperationRecord:
        return await self.take_back(OperationKind.ROLLBACK, to_revision=number)

    async def rebuild(self, *without: int) -> OperationRecord:
        return await self.take_back(OperationKind.REBUILD, without=without)

    async def head(self) -> Revision:
        head = await read.head(self.database)
        assert head is not None
        assert head.number == self.resident.revision
        assert head.fingerprint == self.resident.editor.masters.fingerprint()
        return head

    async def states(self) -> dict[int, str]:
        return {record.id: record.state.value for record in await read.list_edits(self.database)}

    async def close(self) -> None:
        self.thread.close()
        await self.resources.close()


NewDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def new_desk(
    settings: Settings,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    servers: Any,
) -> AsyncIterator[NewDesk]:
    """Makes desks with a tiny random model, each with a ledger of its own; started."""
    made: list[Desk] = []

    async def make(**changed: Any) -> Desk:
        own: dict[str, Any] = {
            "model": str(tiny_folder),
            "edit_mode": "paper",
            "database_url": servers.new_database(),
            "object_dir": tmp_path_factory.mktemp("objects"),
            "edit_modules": tuple(TINY_MODULES.split(",")),
            "edit_lr": 0.01,
            "warmup_size": 20,
        }
        desk = Desk(settings.model_copy(update={**own, **changed}))
        made.append(desk)
        await desk.start()
        return desk

    yield make
    for desk in made:
        await desk.close()
