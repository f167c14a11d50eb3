"""Taking an edit out without harm to others: those that shared something with it are asked again, and taught anew where they
no longer hold.

In slots mode edits share a subject's mark; in matrix mode those that were taught in one revision share its update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.errors import EditorError
from service.domain.edits import EditRecord, EditState, Failure, Outcome
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.model_thread import ModelThread
from service.worker.proposing import as_edit, by_name, code_of, refusal, taught
from service.worker.resident import ResidentModel
from service.worker.shares import Shares

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What takes an edit out: the change, what came of the edits that were taught anew, those that could not be."""

    change: Change
    taught_again: tuple[Outcome, ...] = ()
    failures: tuple[Failure, ...] = ()


class TakingOut:
    """Finds what takes an edit out of one resident model."""

    def __init__(self, resident: ResidentModel, thread: ModelThread, database: Database, objects: ObjectStore) -> None:
        self._resident, self._thread, self._database = resident, thread, database
        self._shares = Shares(resident, thread, database, objects)

    async def of(self, gone: EditRecord) -> TakenOut | None:
        """From what is served. None when the edit's share is not known any more (see Shares)."""
        others = await self._sharing(gone)
        lacking: list[EditRecord] = []
        while True:
            found = await self.with_others(gone, lacking)
            if found is None:
                return None
            left = [each for each in others if each not in lacking]
            worse = await self._worse(found.change, left)
            if not worse:
                return found
            log.info("edits no longer hold without another", gone=gone.id, edits=[each.id for each in worse])
            lacking = sorted([*lacking, *worse], key=lambda each: each.id)

    async def with_others(
        self, gone: EditRecord, lacking: Sequence[EditRecord], draft: Draft | None = None, at: int | None = None
    ) -> TakenOut | None:
        """What takes one edit out, and others out and in again, from a draft of revision `at`, or from what is served."""
        taken = await self._shares.of([gone, *lacking], draft, at)
        return None if taken is None else await self._taught(lacking, TakenOut(taken), draft)

    async def _taught(self, records: Sequence[EditRecord], so_far: TakenOut, draft: Draft | None) -> TakenOut:
        """All of them together, or in halves, until what cannot be taught is alone."""
        if not records:
            return so_far
        try:
            outcome = await taught(self._resident, self._thread, records, so_far.change, draft, {})
        except (EditorError, RuntimeError, ArithmeticError) as error:
            if len(records) == 1:
                failure = Failure(records[0].id, code_of(error), f"it could not be taught anew: {error}")
                return TakenOut(so_far.change, so_far.taught_again, (*so_far.failures, failure))
            middle = len(records) // 2
            return await self._taught(records[middle:], await self._taught(records[:middle], so_far, draft), draft)
        change = Change.of(outcome.proposal, [each.id for each in records]).after(so_far.change)
        again = tuple(
            Outcome(
                record.id,
                record.answers_before or {},
                by_name(outcome.after[index]),
                by_name(outcome.holds[index]),
                record.unrelated_answers,
                record.tokens,
                change.leans.get(record.id, ()),
            )
            for index, record in enumerate(records)
            if index not in outcome.refused
        )
        failures = tuple(refusal(records[index], outcome, index) for index in outcome.refused)
        return TakenOut(change, (*so_far.taught_again, *again), (*so_far.failures, *failures))

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

    async def _worse(self, change: Change, records: Sequence[EditRecord]) -> list[EditRecord]:
        """Those that did hold, and do not after the change, in some format."""
        if not records:
            return []
        draft = await self._thread.run(self._resident.copy)
        await self._thread.run(self._resident.change, draft, change)
        steps = self._resident.within(draft, self._resident.text_editor.holding([as_edit(each) for each in records]))
        held = [by_name(each) async for some, _ in self._thread.each(steps) for each in some]
        return [
            record
            for record, now in zip(records, held, strict=True)
            if any(did and not now.get(format, True) for format, did in (record.holds or {}).items())
        ]
