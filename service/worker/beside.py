"""New edits beside those that are applied: what is about the same subject shares its mark, and may be pushed out by them.

Such edits are asked again before a batch is committed, and those that no longer hold are taught anew in its revision. Where
that would cost an edit of the batch, two facts contradict each other: the newer one stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from editor_core.draft import Draft
from service.domain.edits import EditRecord, EditState, Failure
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.model_thread import ModelThread
from service.worker.proposing import Proposed, by_name
from service.worker.resident import ResidentModel
from service.worker.shares import Shares
from service.worker.teaching_anew import Settled, TeachingAnew

log = structlog.get_logger()
OUTDONE = "outdone"


class Beside:
    """Settles what batches propose to one resident model."""

    def __init__(self, resident: ResidentModel, thread: ModelThread, database: Database, objects: ObjectStore) -> None:
        self._resident, self._thread, self._database = resident, thread, database
        self._shares = Shares(resident, thread, database, objects)
        self._anew = TeachingAnew(resident, thread)

    async def settle(
        self, proposed: Proposed, draft: Draft | None = None, there: Mapping[int, EditRecord] | None = None
    ) -> Settled:
        """What was proposed for a draft with these edits in it (by id), or for what is served."""
        others = await self._sharing(proposed, draft, there)
        lacking: list[EditRecord] = []
        while True:
            found = await self.with_others(proposed, lacking, draft)
            worse = await self._anew.worse(found.change, [each for each in others if each not in lacking], draft)
            if not worse:
                return found
            log.info("edits no longer hold beside newer ones", edits=[each.id for each in worse])
            lacking = sorted([*lacking, *worse], key=lambda each: each.id)

    async def with_others(
        self, proposed: Proposed, lacking: Sequence[EditRecord], draft: Draft | None = None, at: int | None = None
    ) -> Settled:
        """What was proposed for a draft of revision `at`, or for what is served, with applied edits taught anew after it."""
        if not lacking:
            return Settled(proposed.change)
        after = await self._thread.run(self._resident.changed, draft, proposed.change)
        taken = await self._shares.of(lacking, after, at)
        assert taken is not None  # slots always know their share
        without = taken.after(proposed.change)
        found = await self._anew.taught(lacking, Settled(without), draft)
        if not await self._anew.worse(found.change, in_place(proposed), draft):
            return found
        why = "it no longer holds beside newer facts about its subject, which would not hold beside it"
        return Settled(without, failures=tuple(Failure(each.id, OUTDONE, why) for each in lacking))

    async def _sharing(
        self, proposed: Proposed, draft: Draft | None, there: Mapping[int, EditRecord] | None
    ) -> list[EditRecord]:
        """Edits in the weights that share a mark with the batch and hold in some format."""
        if not self._resident.has_slots:
            return []
        new = [each.id for each in in_place(proposed)]
        after = await self._thread.run(self._resident.changed, draft, proposed.change)
        ids = sorted(await self._thread.run(self._resident.sharing, *new, draft=after) - set(proposed.replaced))
        if there is None:
            known = await read.edits_by_id(self._database, ids)
            there = {edit_id: each for edit_id, each in known.items() if each.state is EditState.APPLIED}
        return [there[edit_id] for edit_id in ids if edit_id in there and any((there[edit_id].holds or {}).values())]


def in_place(proposed: Proposed) -> list[EditRecord]:
    """The edits of the batch that are in its proposal, with what holds of them there."""
    outcome = proposed.outcome
    return [
        replace(record, holds=by_name(outcome.holds[index]))
        for index, record in enumerate(proposed.edits)
        if index not in outcome.refused
    ]
