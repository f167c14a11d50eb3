"""Bringing back the edits in force at a revision: from a state at hand, by what the ledger says has changed since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from editor_core.errors import EditorError, StatisticsMismatchError
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.record import Record
from service import failpoints, metrics
from service.domain.revisions import Revision
from service.errors import NotReversible, ObjectDamaged, WrongModel
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.model_thread import ModelThread
from service.worker.proposing import as_edit
from service.worker.scoped.resident import NO_REVISION, ScopedModel
from service.worker.scoped.state import ScopedState

log = structlog.get_logger()
Progress = Callable[[str], None]
Changes = Mapping[int, str | None]  # by edit: the record that is in force, or None


class ScopedRestorer:
    """Restores revisions for one resident model.

    mends: whether records that are missing or damaged are made again, by teaching their edits once more, or else an error.
    """

    def __init__(
        self,
        resident: ScopedModel,
        thread: ModelThread,
        database: Database,
        objects: ObjectStore,
        progress: Progress = lambda message: None,
        *,
        mends: bool = True,
    ) -> None:
        self._resident, self._thread, self._database, self._objects = resident, thread, database, objects
        self._progress, self._mends = progress, mends

    async def follow(self) -> int:
        """Serve the head revision, and return its number.

        Raises WrongModel, NotReversible or ObjectDamaged; the worker must not serve then.
        """
        head = await read.head(self._database)
        if head is None or head.number == self._resident.revision:
            return self._resident.revision
        state = await self.state_at(head)
        await self._thread.exchange(self._resident.adopt, state, head.number)
        metrics.APPLIED_REVISION.set(head.number)
        log.info("revision restored", revision=head.number, edits=len(state.edits), fingerprint=head.fingerprint[:16])
        return head.number

    async def state_at(self, wanted: Revision, passing_over: frozenset[int] = frozenset()) -> ScopedState:
        """The state of a revision; what is served goes on as it is.

        passing_over: revisions whose checkpoints are not to be used.
        Raises WrongModel, NotReversible or ObjectDamaged.
        """
        async for number, start in self._starts(wanted, passing_over):
            edits = start.edits.changed(await self._entries(start.edits, await self._changes(number, wanted.number)))
            if self._resident.fingerprint(edits) == wanted.fingerprint:
                return ScopedState(edits, (await self._statistics(wanted, start)).statistics)
            log.warning("a state at hand does not lead to the revision", start=number, revision=wanted.number)
        await self._refuse(wanted)
        raise AssertionError("refusing raises")

    async def _starts(self, wanted: Revision, passing_over: frozenset[int]):  # type: ignore[no-untyped-def]
        """(revision, state) of what is at hand, the nearest first, the base model last."""
        resident = self._resident
        if resident.revision != NO_REVISION:
            yield resident.revision, resident.state
        known = await read.checkpoints(self._database)
        nearest = sorted((number for number in known if number not in passing_over), key=lambda each: abs(each - wanted.number))
        for number in nearest[:2]:
            try:
                data = await asyncio.to_thread(self._objects.get, known[number])
                yield number, await self._thread.run(resident.stored, data)
            except (ObjectDamaged, StatisticsMismatchError) as error:
                log.warning("checkpoint cannot be used", revision=number, object=known[number], detail=str(error))
        yield 0, resident.base

    async def _changes(self, start: int, wanted: int) -> Changes:
        if start <= wanted:
            return await read.records_changed(self._database, start, wanted)
        touched = await read.records_changed(self._database, wanted, start)
        return await read.records_before(self._database, wanted, list(touched))

    async def _entries(self, at_hand: EditsInForce, changes: Changes) -> dict[int, Entry | None]:
        found: dict[int, Entry | None] = {}
        for done, (edit, record) in enumerate(sorted(changes.items())):
            if len(changes) > 1000 and done % 1000 == 0:
                self._progress(f"reading records: {done} of {len(changes)}")
            failpoints.hit("restore.step")
            there = at_hand.get(edit)
            if record is None:
                if there is not None:
                    found[edit] = None
            elif there is None or there.record != record:
                found[edit] = Entry.of(record, (await self._record(edit, record)).address)
        return found

    async def _record(self, edit: int, name: str) -> Record:
        try:
            return Record.from_bytes(await asyncio.to_thread(self._objects.get, name))
        except (ObjectDamaged, ValueError) as error:
            metrics.OBJECTS_DAMAGED.inc()
            if not self._mends:
                raise ObjectDamaged(f"the record of edit {edit}: {error}") from error
            log.warning("teaching an edit again, for want of its record", edit=edit, object=name, detail=str(error))
            return await self._made_again(edit, name)

    async def mend(self, error: ObjectDamaged, edits: EditsInForce) -> None:
        """Make the record again that could not be read, and put it back. Raises the error when it is of none of these edits,
        and ObjectDamaged when it cannot be made again."""
        for edit, entry in edits.rows():
            if entry.record == error.object:
                metrics.OBJECTS_DAMAGED.inc()
                log.warning(
                    "teaching an edit again, for want of its record", edit=edit, object=entry.record, detail=error.detail
                )
                await self._made_again(edit, entry.record)
                return
        raise error

    async def _made_again(self, edit: int, name: str) -> Record:
        """By teaching the edit once more: the same bits on the same machine. Raises ObjectDamaged when it is not."""
        known = await read.edits_by_id(self._database, [edit])
        try:
            run = await self._thread.run(self._resident.editor.run, [(edit, as_edit(known[edit]))], self._resident.base.edits)
            [_ async for _ in self._thread.each(run.steps)]
        except EditorError as error:
            raise ObjectDamaged(f"record {name} of edit {edit} is lost, and cannot be made again: {error}") from error
        record = run.learned[0].record
        if await asyncio.to_thread(self._objects.put, record.to_bytes()) != name:
            raise ObjectDamaged(
                f"record {name} of edit {edit} is lost; taught again, it is another. Put the file back from a backup, "
                "or take the edit back and post it again"
            )
        metrics.OBJECTS_MENDED.inc()
        return record

    async def _statistics(self, wanted: Revision, start: ScopedState) -> ScopedState:
        if wanted.statistics_object is None:
            return start if wanted.number else self._resident.base
        try:
            data = await asyncio.to_thread(self._objects.get, wanted.statistics_object)
            return ScopedState(start.edits, await self._thread.run(self._resident.statistics_of, data))
        except (ObjectDamaged, StatisticsMismatchError) as error:
            metrics.OBJECTS_DAMAGED.inc()
            if not self._mends:
                raise
            # nothing that is said depends on them: go on with what is at hand, and say so
            log.warning("statistics are lost; going on with those at hand", revision=wanted.number, detail=str(error))
            return start

    async def _refuse(self, wanted: Revision) -> None:
        applied = await read.applied_at(self._database, wanted.number)
        records = await read.records_at(self._database, wanted.number)
        if set(applied) - set(records) or not applied:
            raise NotReversible(
                f"the edits of revision {wanted.number} were taught in another mode, before scoped edits", code="other_mode"
            )
        raise WrongModel(
            f"the records of revision {wanted.number} do not have its fingerprint {wanted.fingerprint[:16]}… with "
            f"{self._resident.name}: use the model and the settings that the ledger was begun with (and the profile, if "
            "`errata calibrate` has run since), or another database; `errata verify` says whether it has been altered"
        )
