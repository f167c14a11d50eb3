"""What takes given edits out of the weights: the parts of earlier updates that are theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from editor_core.change import Change
from service.domain.edits import EditRecord
from service.domain.revisions import Revision, RevisionKind
from service.errors import ObjectDamaged
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.packing import unpack_change
from service.worker.path import back_from
from service.worker.resident import ResidentModel


class Shares:
    """Finds the shares of applied edits."""

    def __init__(self, resident: ResidentModel, database: Database, objects: ObjectStore) -> None:
        self._resident, self._database, self._objects = resident, database, objects

    async def of(self, edits: Sequence[EditRecord], at: int | None = None) -> Change | None:
        """What takes these edits out of the weights of a revision; None where that is not known any more.

        It is not when an edit's update is beyond the rollback window, or a rebuild has come after it.
        at: the revision; without it, what is served.
        """
        head = self._resident.revision if at is None else at
        taught = await read.applied_at(self._database, head)
        wanted = {each.id: taught[each.id] for each in edits if each.id in taught}
        revisions = await self._revisions(set(wanted.values()), head)
        if revisions is None:
            return None
        whole: Change | None = None
        for edit_id, number in wanted.items():
            name = revisions[number].update_object
            try:
                found = unpack_change(await asyncio.to_thread(self._objects.get, name)) if name else Change()
            except ObjectDamaged:
                return None
            whole = Change.undoing(found.updates, found.owners, [edit_id]).after(whole)
        return whole

    async def _revisions(self, missing: set[int], at: int) -> dict[int, Revision] | None:
        """By number; None when a rebuild stands between one of them and revision `at`."""
        found: dict[int, Revision] = {}
        async with aclosing(back_from(self._database, at)) as revisions:
            async for revision in revisions:
                if revision.number in missing:
                    found[revision.number] = revision
                    missing.discard(revision.number)
                if not missing:
                    return found
                if revision.kind is RevisionKind.REBUILD:
                    return None
        return None
