"""Taking an edit out without harm to others: those that shared something with it are asked again, and taught anew where they
no longer hold.

In slots mode edits share a subject's mark; in matrix mode those that were taught in one revision share its update.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from editor_core.draft import Draft
from service.domain.edits import EditRecord, EditState
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.shares import Shares
from service.worker.teaching_anew import Settled, TeachingAnew

log = structlog.get_logger()


class TakingOut:
    """Finds what takes an edit out of one resident model."""

    def __init__(self, resident: ResidentModel, thread: ModelThread, database: Database, objects: ObjectStore) -> None:
        self._resident, self._thread, self._database = resident, thread, database
        self._shares = Shares(resident, thread, database, objects)
        self._anew = TeachingAnew(resident, thread)

    async def of(self, gone: EditRecord) -> Settled | None:
        """From what is served. None when the edit's share is not known any more (see Shares)."""
        others = await self._sharing(gone)
        lacking: list[EditRecord] = []
        while True:
            found = await self.with_others(gone, lacking)
            if found is None:
                return None
            left = [each for each in others if each not in lacking]
            worse = await self._anew.worse(found.change, left)
            if not worse:
                return found
            log.info("edits no longer hold without another", gone=gone.id, edits=[each.id for each in worse])
            lacking = sorted([*lacking, *worse], key=lambda each: each.id)

    async def with_others(
        self, gone: EditRecord, lacking: Sequence[EditRecord], draft: Draft | None = None, at: int | None = None
    ) -> Settled | None:
        """What takes one edit out, and others out and in again, from a draft of revision `at`, or from what is served."""
        taken = await self._shares.of([gone, *lacking], draft, at)
        return None if taken is None else await self._anew.taught(lacking, Settled(taken), draft)

    async def _sharing(self, gone: EditRecord) -> list[EditRecord]:
        """Applied edits that share something with this one and hold in some format."""
        if self._resident.has_slots:
            ids = set(await self._thread.run(self._resident.sharing, gone.id))
        else:
            taught_at = await read.applied_at(self._database, self._resident.revision)
            ids = {edit_id for edit_id, number in taught_at.items() if number == taught_at.get(gone.id)} - {gone.id}
        known = await read.edits_by_id(self._database, sorted(ids))
        applied = [known[edit_id] for edit_id in sorted(known) if known[edit_id].state is EditState.APPLIED]
        return [each for each in applied if any((each.holds or {}).values())]
