"""Making a revision's objects again by doing once more what the ledger says was done: the same bits on the same machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from editor_core.change import Change
from editor_core.draft import Draft
from service import metrics
from service.domain.edits import EditEvent, EditRecord
from service.domain.revisions import Revision, RevisionKind
from service.errors import ObjectDamaged
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.worker.facts import read_facts
from service.worker.model_thread import ModelThread
from service.worker.packing import pack_change
from service.worker.proposing import propose
from service.worker.rebuilding import groups, replay_groups
from service.worker.resident import ResidentModel
from service.worker.shares import Shares
from service.worker.warmup import BATCH_SIZE

log = structlog.get_logger()
REMEDY = "put the file back from a backup, or start from another database"


class Mender:
    """Replays single revisions on a draft of their parents, and puts the objects that come out into the store."""

    def __init__(
        self,
        resident: ResidentModel,
        thread: ModelThread,
        database: Database,
        objects: ObjectStore,
        progress: Callable[[str], None],
    ) -> None:
        self._resident, self._thread, self._database, self._objects = resident, thread, database, objects
        self._progress = progress
        self._shares = Shares(resident, database, objects)

    async def replay(self, draft: Draft, revision: Revision) -> None:
        """From the parent's weights and statistics to this revision's.

        Raises ObjectDamaged, naming the object, when what comes out is not what the ledger says.
        """
        self._progress(f"replaying revision {revision.number}")
        match revision.kind:
            case RevisionKind.EDIT:
                change = await self._edited(draft, revision)
            case RevisionKind.SUBTRACT:
                change = await self._subtracted(draft, revision)
            case RevisionKind.WARMUP:
                change = await self._warmed(draft)
            case _:
                raise self._hopeless(revision, f"a {revision.kind} is not replayed")
        found = await self._thread.run(self._resident.fingerprint, draft)
        if found != revision.fingerprint:
            raise self._hopeless(revision, f"replayed, its weights have fingerprint {found[:16]}…")
        await self._put_back(draft, revision, change)

    async def _warmed(self, draft: Draft) -> Change:
        settings = self._resident.settings
        steps = self._resident.text_editor.warm_up(read_facts(settings), BATCH_SIZE)
        found = [proposal async for (_, proposal), _ in self._thread.each(self._resident.within(draft, steps))]
        proposal = found[-1]
        assert proposal is not None
        await self._thread.run(self._resident.change, draft, Change.of(proposal), proposal.statistics)
        return Change.of(proposal)

    async def _edited(self, draft: Draft, revision: Revision) -> Change:
        records, applied = await self._batch_of(revision)
        share_of = partial(self._shares.of, at=revision.number - 1)
        proposed = await propose(self._resident, self._thread, records, applied, share_of, draft)
        statistics = proposed.outcome.proposal.statistics
        await self._thread.run(self._resident.change, draft, proposed.change, statistics)
        return proposed.change

    async def _batch_of(self, revision: Revision) -> tuple[list[EditRecord], list[EditRecord]]:
        """(the edits that the batch was proposed with, those of the same prompts that were applied then)."""
        assert revision.batch_id is not None
        async with self._database.transaction() as work:
            events = await work.repository.events_of(revision.number)
            before = await work.repository.applied_at(revision.number - 1)
            members = await work.repository.edits_of_batch(revision.batch_id)
            old = await work.repository.edits_with_prompts([each.edit.prompt for each in members], list(before))
        applied = {each.edit_id for each in events.values() if each.event is EditEvent.APPLIED}
        return [each for each in members if each.id in applied], old

    async def _subtracted(self, draft: Draft, revision: Revision) -> Change:
        async with self._database.transaction() as work:
            events = await work.repository.events_of(revision.number)
            known = await work.repository.edits_by_id(revision.edit_ids)
        [gone] = [known[each.edit_id] for each in events.values() if each.event is EditEvent.REVERTED]
        taken = await self._shares.of([gone], at=revision.number - 1)
        if taken is None:
            raise self._hopeless(revision, "the share that it takes out is gone too")
        await self._thread.run(self._resident.change, draft, taken)
        return taken

    async def rebuild_again(self, draft: Draft, revision: Revision) -> None:
        """From the state of the warm-up to that of a rebuild, and its whole state put back. Raises ObjectDamaged."""
        self._progress(f"replaying revision {revision.number}, a rebuild")
        async with self._database.transaction() as work:
            before = await work.repository.applied_at(revision.number - 1)
            events = await work.repository.events_of(revision.number)
            gone = {each.edit_id for each in events.values() if each.event is EditEvent.REVERTED}
            wanted = await work.repository.edits_by_id(sorted(before.keys() - gone))
            first_taught = await work.repository.first_taught()
        await replay_groups(self._resident, self._thread, draft, groups(wanted, first_taught), self._progress)
        found = await self._thread.run(self._resident.fingerprint, draft)
        state = await self._thread.run(self._resident.pack_state, draft)
        if found != revision.fingerprint or await asyncio.to_thread(self._objects.put, state) != revision.update_object:
            raise self._hopeless(revision, f"replayed, its weights have fingerprint {found[:16]}…")
        metrics.OBJECTS_MENDED.inc()

    async def _put_back(self, draft: Draft, revision: Revision, change: Change) -> None:
        statistics = await self._thread.run(self._resident.pack_statistics, draft)
        for wanted, data in ((revision.update_object, pack_change(change)), (revision.statistics_object, statistics)):
            if wanted is None:
                continue
            if data is None or await asyncio.to_thread(self._objects.put, data) != wanted:
                raise self._hopeless(revision, f"replayed, it does not give object {wanted}")
            metrics.OBJECTS_MENDED.inc()
        log.info("revision replayed, its objects put back", revision=revision.number)

    def _hopeless(self, revision: Revision, why: str) -> ObjectDamaged:
        return ObjectDamaged(
            f"objects of revision {revision.number} ({revision.update_object}) cannot be made again: {why}; {REMEDY}"
        )
