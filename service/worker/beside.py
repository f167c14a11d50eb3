"""New edits beside those that are applied: what shares a subject's mark, or reads like one, may be pushed out by them.

Such edits are asked again before a batch is committed, and some of all the others, drawn by lot; those that no longer hold are
taught anew in its revision. Where that would cost an edit of the batch, one of them has to go. Of facts about one subject that
contradict each other the newer one stays; a new fact that crowds out others' is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import structlog

from editor_core.draft import Draft
from service.domain.edits import EditRecord, EditState, Failure
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger import read
from service.worker.model_thread import ModelThread
from service.worker.proposing import CROWDS_OUT, Proposed, by_name, without
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
    ) -> tuple[Proposed, Settled]:
        """What was proposed for a draft with these edits in it (by id), or for what is served, without what crowds out others;
        and what it comes to."""
        close, by_lot = await self._to_ask(proposed, draft, there)
        others, lacking = [*close, *by_lot], list[EditRecord]()
        while True:
            so_far, found, costs = await self._taught_after(proposed, lacking, draft)
            if crowding := await self._crowding(proposed, costs, draft):
                log.info(
                    "new edits crowd out others", edits=[each.id for each in crowding], others=[each.id for each in lacking]
                )
                proposed = without(proposed, [crowds_out(each, lacking) for each in crowding])
                others, lacking = [*close, *(each for each in lacking if each not in close)], []
                continue
            if costs:
                found = await self._in_halves(in_place(proposed), lacking, so_far, draft)
            worse = await self._anew.worse(found.change, [each for each in others if each not in lacking], draft)
            if not worse:
                return proposed, found
            unforeseen = [each.id for each in worse if each in by_lot]
            log.info("edits no longer hold beside newer ones", edits=[each.id for each in worse], unforeseen=unforeseen)
            lacking = sorted([*lacking, *worse], key=lambda each: each.id)
            others = close  # the lot is asked once: what is taught anew is little

    async def with_others(
        self, proposed: Proposed, lacking: Sequence[EditRecord], draft: Draft | None = None, at: int | None = None
    ) -> Settled:
        """What was proposed for a draft of revision `at`, or for what is served, with applied edits taught anew after it."""
        so_far, found, costs = await self._taught_after(proposed, lacking, draft, at)
        return await self._in_halves(in_place(proposed), lacking, so_far, draft) if costs else found

    async def _taught_after(
        self, proposed: Proposed, lacking: Sequence[EditRecord], draft: Draft | None, at: int | None = None
    ) -> tuple[Settled, Settled, list[EditRecord]]:
        """(the batch without what is lacking, with all of that taught anew, edits of the batch that do not hold beside it)."""
        if not lacking:
            return Settled(proposed.change), Settled(proposed.change), []
        after = await self._thread.run(self._resident.changed, draft, proposed.change)
        taken = await self._shares.of(lacking, after, at)
        assert taken is not None  # slots always know their share
        so_far = Settled(taken.after(proposed.change))
        found = await self._anew.taught(lacking, so_far, draft)
        return so_far, found, await self._anew.worse(found.change, in_place(proposed), draft)

    async def _in_halves(
        self, kept: Sequence[EditRecord], lacking: Sequence[EditRecord], so_far: Settled, draft: Draft | None
    ) -> Settled:
        """Together these would cost some that are to be kept: taught anew are all but those whose fault that is."""
        if len(lacking) == 1:
            why = "it no longer holds beside newer facts, which would not hold beside it"
            return replace(so_far, failures=(*so_far.failures, Failure(lacking[0].id, OUTDONE, why)))
        middle = len(lacking) // 2
        for half in (lacking[:middle], lacking[middle:]):
            found = await self._anew.taught(half, so_far, draft)
            costs = await self._anew.worse(found.change, kept, draft)
            so_far = await self._in_halves(kept, half, so_far, draft) if costs else found
            again = {each.edit_id: each.holds for each in so_far.taught_again}
            kept = [*kept, *(replace(each, holds=again[each.id]) for each in half if each.id in again)]
        return so_far

    async def _crowding(self, proposed: Proposed, costs: Sequence[EditRecord], draft: Draft | None) -> list[EditRecord]:
        """Of edits of the batch that do not hold beside applied ones, those about another subject than anybody else's."""
        if not costs:
            return []
        after = await self._thread.run(self._resident.changed, draft, proposed.change)
        alone = [each for each in costs if not await self._thread.run(partial(self._resident.sharing, draft=after), each.id)]
        return [each for each in alone if each.id not in proposed.replacing]

    async def _to_ask(
        self, proposed: Proposed, draft: Draft | None, there: Mapping[int, EditRecord] | None
    ) -> tuple[list[EditRecord], list[EditRecord]]:
        """Edits in the weights that hold in some format, so far as the ledger knows: those that the batch may have cost, and
        some of the others by lot."""
        members = in_place(proposed)
        if not self._resident.has_slots or not members:
            return [], []
        after = await self._thread.run(self._resident.changed, draft, proposed.change)
        close, every = await self._thread.run(self._resident.beside, [each.id for each in members], after)
        others = [each for each in every if each not in close]
        ids = drawn(others, self._resident.settings.asked_again, members[0].edit.prompt)
        if there is None:
            known = await read.edits_by_id(self._database, sorted(close | ids))
            there = {edit_id: each for edit_id, each in known.items() if each.state is EditState.APPLIED}
        held = {edit_id: each for edit_id, each in there.items() if any((each.holds or {}).values())}
        return [held[each] for each in sorted(close) if each in held], [held[each] for each in sorted(ids) if each in held]


def in_place(proposed: Proposed) -> list[EditRecord]:
    """The edits of the batch that are in its proposal, with what holds of them there."""
    outcome = proposed.outcome
    return [
        replace(record, holds=by_name(outcome.holds[index]))
        for index, record in enumerate(proposed.edits)
        if index not in outcome.refused
    ]


def crowds_out(new: EditRecord, others: Sequence[EditRecord]) -> Failure:
    """Why a new edit is refused for the sake of others."""
    named = ", ".join(f"{each.id} ({each.edit.prompt[:80]!r})" for each in others[:5])
    why = f"the model would not tell its subject from those of applied edits, which did not hold beside it: {named}"
    return Failure(new.id, CROWDS_OUT, f"{why}; say more of the subject's name in the prompt, or take those edits back first")


def drawn(others: Sequence[int], count: int, by: str) -> frozenset[int]:
    """`count` of the ids by a lot that a text draws: it and their order alone decide, so that a replay and a rebuild agree."""
    return frozenset(Random(by).sample(others, min(count, len(others))))
