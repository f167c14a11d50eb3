"""Bringing back the state of a revision: from the newest checkpoint that can be used, by the changes after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
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
        steps: list[tuple[Revision, list[str]]] = []  # each with the damaged checkpoints of the state that it gives
        damaged: list[str] = []
        known = await read.checkpoints(self._database)
        checkpoints = {number: name for number, name in known.items() if number not in passing_over}
        async with aclosing(back_from(self._database, wanted.number)) as revisions:
            async for revision in revisions:
                started = await self._start(revision, checkpoints.get(revision.number), damaged)
                if started is not None:
                    draft, has_statistics = started
                    await self._put_back(draft, revision, damaged)
                    break
                if revision.source is None:
                    steps.append((revision, damaged))
                    damaged = []
        for revision, lost in reversed(steps):
            self._progress(f"applying revision {revision.number} of {wanted.number}")
            failpoints.hit("restore.step")
            has_statistics = await self._step(draft, revision, has_statistics, replay)
            if lost and self._mends:
                has_statistics = await self._mend_checkpoints(draft, revision, has_statistics, lost)
        await self._statistics(draft, wanted, has_statistics)
        found = await self._thread.run(self._resident.fingerprint, draft)
        if found != wanted.fingerprint:
            raise FingerprintMismatch(
                f"the weights rebuilt for revision {wanted.number} have fingerprint {found[:16]}…, "
                f"the ledger says {wanted.fingerprint[:16]}…"
            )
        return draft

    async def _start(self, revision: Revision, checkpoint: str | None, damaged: list[str]) -> tuple[Draft, bool] | None:
        """(a draft at this revision, whether its statistics are that revision's too), if one is at hand.

        damaged: is added to.
        """
        if revision.number == self._resident.revision:
            return await self._thread.run(self._resident.copy), True
        for name in {checkpoint, revision.update_object if revision.kind is RevisionKind.REBUILD else None} - {None}:
            assert name is not None
            if (draft := await self._from_checkpoint(revision, name, damaged)) is not None:
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
                    "settings it was begun with, or another database"
                )
            return draft, True
        return None

    async def _from_checkpoint(self, revision: Revision, name: str, damaged: list[str]) -> Draft | None:
        """None, having said so, when it cannot be used: the one before it will do."""
        try:
            draft = await self._thread.run(self._resident.stored, unpack_state(await self._get(name)))
            if await self._thread.run(self._resident.fingerprint, draft) == revision.fingerprint:
                return draft
            detail = f"object {name} does not hold the weights of revision {revision.number}"
        except ObjectDamaged as error:
            detail = str(error)
            damaged.append(name)
        except StatisticsMismatchError as error:
            detail = str(error)
        log.warning("checkpoint cannot be used", revision=revision.number, object=name, detail=detail)
        return None

    async def _mend_checkpoints(self, draft: Draft, revision: Revision, has_statistics: bool, damaged: Sequence[str]) -> bool:
        """Whether the draft has the revision's statistics now. What cannot be mended must not keep anybody from serving."""
        try:
            await self._statistics(draft, revision, has_statistics)
        except ObjectDamaged as error:
            log.warning("checkpoint not put back", revision=revision.number, detail=error.detail)
            return has_statistics
        await self._put_back(draft, revision, damaged)
        return True

    async def _put_back(self, draft: Draft, revision: Revision, damaged: Sequence[str]) -> None:
        """The draft is what these checkpoints held: of its revision, or of rollbacks to it."""
        for name in damaged if self._mends else ():
            state = await self._thread.run(self._resident.pack_state, draft)
            if await asyncio.to_thread(self._objects.put, state) == name:
                metrics.OBJECTS_MENDED.inc()
                log.info("checkpoint put back", revision=revision.number, object=name)
            else:
                log.warning("checkpoint cannot be made again", revision=revision.number, object=name)

    async def _step(self, draft: Draft, revision: Revision, has_statistics: bool, replay: bool) -> bool:
        """From the parent's state to this revision's; whether the statistics have come along."""
        if not replay:
            try:
                return await self._by_object(draft, revision, has_statistics)
            except ObjectDamaged as error:
                if not self._mends:
                    raise
                log.warning("object cannot be used; replaying its revision", revision=revision.number, detail=error.detail)
                if not has_statistics:  # replaying begins with those that were there
                    await self._statistics(draft, await read.get_revision(self._database, revision.number - 1), False)
        await self._mender.replay(draft, revision)
        return True

    async def _by_object(self, draft: Draft, revision: Revision, has_statistics: bool) -> bool:
        if revision.update_object is not None:
            change = unpack_change(await self._get(revision.update_object))
            await self._thread.run(self._resident.change, draft, change)
        return has_statistics and revision.statistics_object is None

    async def _statistics(self, draft: Draft, revision: Revision, has_statistics: bool) -> None:
        """Those of this revision on the draft, unless they are there. Raises ObjectDamaged."""
        if not has_statistics and revision.statistics_object is not None:
            stored = unpack_statistics(await self._get(revision.statistics_object))
            await self._thread.run(self._resident.load_statistics, draft, stored)

    async def _get(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread(self._objects.get, name)
        except ObjectDamaged:
            metrics.OBJECTS_DAMAGED.inc()
            raise
