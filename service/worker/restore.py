"""Following the ledger: bringing the weights in memory from wherever they are to the head revision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from service import metrics
from service.domain.revisions import Revision, RevisionKind
from service.errors import LedgerConflict, WrongModel
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger.read import revisions_after
from service.worker.model_thread import ModelThread
from service.worker.packing import unpack_statistics, unpack_updates
from service.worker.resident import NO_REVISION, ResidentModel

log = structlog.get_logger()


async def follow_ledger(
    resident: ResidentModel,
    thread: ModelThread,
    database: Database,
    objects: ObjectStore,
    progress: Callable[[str], None] = lambda message: None,
    until: int | None = None,
) -> int:
    """Apply every revision the model does not have yet, check the fingerprint, and return the last one's number.

    until: the last revision to apply; None for the head.

    Raises WrongModel, ObjectDamaged, FingerprintMismatch or LedgerConflict; the worker must not serve then.
    """
    after = await revisions_after(database, resident.revision)
    missing = [revision for revision in after if until is None or revision.number <= until]
    for revision in missing:
        if revision.number != resident.revision + 1:
            raise LedgerConflict(f"the ledger goes from revision {resident.revision} to {revision.number}")
        if resident.revision == NO_REVISION:
            await thread.run(_check_base, resident, revision)
        progress(f"applying revision {revision.number} of {missing[-1].number}")
        updates = {}
        if revision.update_object:
            updates = unpack_updates(await asyncio.to_thread(objects.get, revision.update_object))
        await thread.run(resident.apply_revision, revision.number, updates)
    if missing:
        head = missing[-1]
        statistics = None
        if head.statistics_object:
            statistics = unpack_statistics(await asyncio.to_thread(objects.get, head.statistics_object))
        await thread.run(resident.settle, statistics, head.fingerprint)
        metrics.APPLIED_REVISION.set(head.number)
        log.info("revision restored", revision=head.number, fingerprint=head.fingerprint[:16], row_hash=head.row_hash[:16])
    return resident.revision


def _check_base(resident: ResidentModel, base: Revision) -> None:
    if base.kind is not RevisionKind.BASE or base.fingerprint != resident.editor.masters.fingerprint():
        raise WrongModel(
            f"this ledger was begun with another model, or other edited modules, than {resident.name}; "
            "use the settings it was begun with (and the profile, if `errata calibrate` has run since), or another database"
        )
