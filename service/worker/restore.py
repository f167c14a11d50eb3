"""Bringing back the state of a revision: from the newest checkpoint that can be used, by the changes after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from contextlib import aclosing

import structlog

from editor_core.draft import Draft
from editor_core.errors import StatisticsMismatchError
from service import failpoints, metrics
from service.domain.revisions import Revision, RevisionKind
from service.errors import FingerprintMismatch, ObjectDamaged, WrongModel
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.mending import Mender
from service.worker.model_thread import ModelThread
from service.worker.packing import unpack_change, unpack_state, unpack_statistics
from service.worker.path import back_from
from service.worker.resident import ResidentModel

log = structlog.get_logger()
Progress = Callable[[str], None]


class Restorer:
    """Restores revisions for one resident model. A draft it returns has the weights that the ledger says, bit for bit."""

    def __init__(
        self,
        resident: ResidentModel,
        thread: ModelThread,
        database: Database,
        objects: ObjectStore,
        progress: Progress = lambda message: None,
        *,
        mends: bool = True,
    ) -> None:
        """mends: whether objects that are missing or damaged are made again and put back, or else an error."""
        self._resident, self._thread, self._database, self._objects = resident, thread, database, objects
        self._progress, self._mends = progress, mends
        self._mender = Mender(resident, thread, database, objects, progress)

    async def follow(self) -> int:
        """Serve the head revision, and return its number.

        Raises WrongModel, ObjectDamaged, FingerprintMismatch or LedgerConflict; the worker must not serve then.
        """
        head = await read.head(self._database)
        if head is None or head.number == self._resident.revision:
            return self._resident.revision
        draft = await self.draft_at(head)
        await self._thread.change(self._resident.adopt, draft, head.number, {})
        metrics.APPLIED_REVISION.set(head.number)
        log.info("revision restored", revision=head.number, fingerprint=head.fingerprint[:16], row_hash=head.row_hash[:16])
        return head.number

    async def draft_at(self, wanted: Revision, passing_over: Container[int] = ()) -> Draft:
        """The state of a revision on a draft, weights and statistics; what is served goes on as it is.

        passing_over: revisions whose checkpoints are not to be used.

        Objects that are missing or damaged are named and made again by replaying their edits. Raises ObjectDamaged when that
        cannot be done, WrongModel or FingerprintMismatch.
        """
        try:
            return await self._restored(wanted, passing_over, replay=False)
        except ObjectDamaged as error:
            if not self._mends:
                raise
            log.warning("replaying edits, for want of whole objects", detail=error.detail)
            return await self._restored(wanted, passing_over, replay=True)

    async def first(self) -> Revision:
        """Where edits begin: after the warm-up, where there was one."""
        async with self._database.transaction() as work:
            *_, last = await work.repository.revisions_after(-1, limit=2)
            return last if last.kind is RevisionKind.WARMUP else await read.get_revision(self._database, 0)

    async def _restored(self, wanted: Revision, passing_over: Container[int], replay: bool) -> Draft:
        """replay: do not trust any object after the checkpoint, but make each again."""
        steps: list[Revision] = []
        known = await read.checkpoints(self._database)
        checkpoints = {number: name for number, name in known.items() if number not in passing_over}
        async with aclosing(back_from(self._database, wanted.number)) as revisions:
            async for revision in revisions:
                started = await self._start(revision, checkpoints.get(revision.number))
                if started is not None:
                    draft, has_statistics = started
                    break
                if revision.source is None:
                    steps.append(revision)
        for revision in reversed(steps):
            self._progress(f"applying revision {revision.number} of {wanted.number}")
            failpoints.hit("restore.step")
            has_statistics = await self._step(draft, revision, has_statistics, replay)
        if not has_statistics and wanted.statistics_object:
            stored = unpack_statistics(await self._get(wanted.statistics_object))
            await self._thread.run(self._resident.load_statistics, draft, stored)
        found = await self._thread.run(self._resident.fingerprint, draft)
        if found != wanted.fingerprint:
            raise FingerprintMismatch(
                f"the weights rebuilt for revision {wanted.number} have fingerprint {found[:16]}…, "
                f"the ledger says {wanted.fingerprint[:16]}…"
            )
        return draft

    async def _start(self, revision: Revision, checkpoint: str | None) -> tuple[Draft, bool] | None:
        """(a draft at this revision, whether its statistics are that revision's too), if one is at hand."""
        if revision.number == self._resident.revision:
            return await self._thread.run(self._resident.copy), True
        for name in {checkpoint, revision.update_object if revision.kind is RevisionKind.REBUILD else None} - {None}:
            assert name is not None
            if (draft := await self._from_checkpoint(revision, name)) is not None:
                return draft, True
        if revision.kind is RevisionKind.REBUILD:
            if not self._mends:
                raise ObjectDamaged(
                    f"object {revision.update_object}, the whole state of revision {revision.number}, is not there"
                )
            draft = await self.draft_at(await self.first())
            await self._mender.rebuild_again(draft, revision)
            return draft, True
        if revision.kind is RevisionKind.BASE:
            draft = await self._thread.run(self._resident.base)
            if revision.fingerprint != await self._thread.run(self._resident.fingerprint, draft):
                raise WrongModel(
                    f"this ledger was begun with another model, or other edited modules, than {self._resident.name}; use the "
                    "settings it was begun with (and the profile, if `errata calibrate` has run since), or another database"
                )
            return draft, True
        return None

    async def _from_checkpoint(self, revision: Revision, name: str) -> Draft | None:
        """None, having said so, when it cannot be used: the one before it will do."""
        try:
            draft = await self._thread.run(self._resident.stored, unpack_state(await self._get(name)))
            if await self._thread.run(self._resident.fingerprint, draft) == revision.fingerprint:
                return draft
            detail = f"object {name} does not hold the weights of revision {revision.number}"
        except (ObjectDamaged, StatisticsMismatchError) as error:
            detail = str(error)
        log.warning("checkpoint cannot be used", revision=revision.number, object=name, detail=detail)
        return None

    async def _step(self, draft: Draft, revision: Revision, has_statistics: bool, replay: bool) -> bool:
        """From the parent's state to this revision's; whether the statistics have come along."""
        if not replay:
            try:
                return await self._by_object(draft, revision, has_statistics)
            except ObjectDamaged as error:
                if not self._mends:
                    raise
                log.warning("object cannot be used; replaying its revision", revision=revision.number, detail=error.detail)
                await self._parent_statistics(draft, revision, has_statistics)
        await self._mender.replay(draft, revision)
        return True

    async def _by_object(self, draft: Draft, revision: Revision, has_statistics: bool) -> bool:
        if revision.update_object is not None:
            change = unpack_change(await self._get(revision.update_object))
            await self._thread.run(self._resident.change, draft, change)
        return has_statistics and revision.statistics_object is None

    async def _parent_statistics(self, draft: Draft, revision: Revision, has_statistics: bool) -> None:
        """Replaying begins with the statistics that were there. Raises ObjectDamaged."""
        if not has_statistics:
            parent = await read.get_revision(self._database, revision.number - 1)
            if parent.statistics_object is not None:
                stored = unpack_statistics(await self._get(parent.statistics_object))
                await self._thread.run(self._resident.load_statistics, draft, stored)

    async def _get(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread(self._objects.get, name)
        except ObjectDamaged:
            metrics.OBJECTS_DAMAGED.inc()
            raise
