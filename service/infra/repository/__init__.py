"""All SQL of the service, by subject. One instance per transaction; every change of state is a guarded UPDATE."""

from __future__ import annotations

from sqlalchemy import text

from service.infra.repository.batches import BatchRows
from service.infra.repository.checkpoints import CheckpointRows
from service.infra.repository.copying import CopyRows
from service.infra.repository.edits import EditRows
from service.infra.repository.events import EventRows
from service.infra.repository.identity import IdentityRows
from service.infra.repository.integrity import IntegrityRows
from service.infra.repository.keys import KeyRows
from service.infra.repository.leases import LeaseRows
from service.infra.repository.operations import OperationRows
from service.infra.repository.requests import RequestRows
from service.infra.repository.revisions import RevisionRows

__all__ = ["Repository"]


class Repository(
    EditRows,
    BatchRows,
    EventRows,
    RevisionRows,
    CheckpointRows,
    OperationRows,
    RequestRows,
    LeaseRows,
    IdentityRows,
    IntegrityRows,
    KeyRows,
    CopyRows,
):
    """Everything that can be asked of the ledger, and done to it."""

    async def freeze(self) -> None:
        """What is read from here to the end of the transaction is as it is now. To be called first."""
        await self._connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
