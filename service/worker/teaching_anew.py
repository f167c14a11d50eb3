"""Applied edits that a change may have cost: asked again, and those that no longer hold taught anew in its revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.errors import EditorError
from service.domain.edits import EditRecord, Failure, Outcome
from service.worker.model_thread import ModelThread
from service.worker.proposing import as_edit, by_name, code_of, refusal, taught
from service.worker.resident import ResidentModel


@dataclass(frozen=True, slots=True)
class Settled:
    """A change without harm to others: with what came of the edits that were taught anew, and those that could not be."""

    change: Change
    taught_again: tuple[Outcome, ...] = ()
    failures: tuple[Failure, ...] = ()


class TeachingAnew:
    """Asks and teaches edits of one resident model."""

    def __init__(self, resident: ResidentModel, thread: ModelThread) -> None:
        self._resident, self._thread = resident, thread

    async def taught(self, records: Sequence[EditRecord], so_far: Settled, draft: Draft | None = None) -> Settled:
        """What a change comes to with these taught after it: all together, or in halves, until what cannot be taught is alone.

        draft: what the change is made to, in place of what is served.
        """
        if not records:
            return so_far
        try:
            outcome = await taught(self._resident, self._thread, records, so_far.change, draft, {})
        except (EditorError, RuntimeError, ArithmeticError) as error:
            if len(records) == 1:
                failure = Failure(records[0].id, code_of(error), f"it could not be taught anew: {error}")
                return Settled(so_far.change, so_far.taught_again, (*so_far.failures, failure))
            middle = len(records) // 2
            return await self.taught(records[middle:], await self.taught(records[:middle], so_far, draft), draft)
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
        ids = {each.id for each in records}
        earlier = (each for each in so_far.taught_again if each.edit_id not in ids)
        return Settled(change, (*earlier, *again), (*so_far.failures, *failures))

    async def worse(self, change: Change, records: Sequence[EditRecord], draft: Draft | None = None) -> list[EditRecord]:
        """Those that did hold, and do not after the change, in some format."""
        if not records:
            return []
        after = await self._thread.run(self._resident.changed, draft, change)
        steps = self._resident.within(after, self._resident.text_editor.holding([as_edit(each) for each in records]))
        held = [by_name(each) async for some, _ in self._thread.each(steps) for each in some]
        return [
            record
            for record, now in zip(records, held, strict=True)
            if any(did and not now.get(format, True) for format, did in (record.holds or {}).items())
        ]
