"""New edits beside those that are applied: what shares a subject's mark, or reads like one, may be pushed out by them.

Such edits are asked again before a batch is committed, and some of all the others, drawn by lot; those that no longer hold are
taught anew in its revision. Where that would cost an edit of the batch, both are taught together; where not even that helps,
one of them has to go. Of facts about one subject that contradict each other the newer one stays; a new fact that crowds out
others' is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


class CrowdedOut(Exception):
    """New edits that others do not hold beside, whatever is tried."""

    def __init__(self, new: Sequence[EditRecord]) -> None:
        super().__init__(", ".join(str(each.id) for each in new))
        self.new = new


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
            try:
                found = await self.with_others(proposed, lacking, draft)
            except CrowdedOut as error:
                log.info(
                    "new edits crowd out others", edits=[each.id for each in error.new], others=[each.id for each in lacking]
                )
                proposed = without(proposed, [crowds_out(each, lacking) for each in error.new])
                others, lacking = [*close, *(each for each in lacking if each not in close)], []
                continue
            worse = await self._anew.worse(found.change, [each for each in others if each not in lacking], draft)
            if not worse:
                return _as_settled(proposed, found)
            unforeseen = [each.id for each in worse if each in by_lot]
            log.info("edits no longer hold beside newer ones", edits=[each.id for each in worse], unforeseen=unforeseen)
            lacking = sorted([*lacking, *worse], key=lambda each: each.id)
            others = close  # the lot is asked once: what is taught anew is little

    async def with_others(self, proposed: Proposed, lacking: Sequence[EditRecord], draft: Draft | None = None) -> Settled:
        """What was proposed for a draft, or for what is served, with applied edits taught anew after it.

        Raises CrowdedOut.
        """
        so_far = Settled(proposed.change)
        if not lacking:
            return so_far
        kept = in_place(proposed)
        found = await self._anew.taught(lacking, await self._without(lacking, so_far, draft), draft)
        if costs := await self._anew.worse(found.change, kept, draft):
            found = await self._in_halves(_Dispute(proposed, kept, draft), lacking, costs, so_far)
        return found

    async def _in_halves(
        self, dispute: _Dispute, lacking: Sequence[EditRecord], costs: Sequence[EditRecord], so_far: Settled
    ) -> Settled:
        """Together these would cost some that are to be kept: taught in halves, until those whose fault it is are alone."""
        if len(lacking) == 1:
            return await self._at_odds(dispute, lacking[0], costs, so_far)
        middle = len(lacking) // 2
        for half in (lacking[:middle], lacking[middle:]):
            without = await self._without(half, so_far, dispute.draft)
            found = await self._anew.taught(half, without, dispute.draft)
            costs = await self._anew.worse(found.change, dispute.kept, dispute.draft)
            so_far = await self._in_halves(dispute, half, costs, so_far) if costs else found
            again = {each.edit_id: each.holds for each in so_far.taught_again}
            known = {each.id for each in dispute.kept}
            dispute.kept += [replace(each, holds=again[each.id]) for each in half if each.id in again.keys() - known]
        return so_far

    async def _at_odds(self, dispute: _Dispute, lost: EditRecord, costs: Sequence[EditRecord], so_far: Settled) -> Settled:
        """An edit that, taught anew, would cost others: all of them are taught together, so that each is told from the rest.

        Where that does not help, new edits about subjects that are nobody else's are refused, or else the older one goes.
        """
        together = [lost, *await self._with_their_subjects(dispute, costs, so_far)]
        if (found := await self._taught_together(dispute, together, so_far)) is not None:
            return found
        if crowding := await self._crowding(dispute, costs, so_far):
            raise CrowdedOut(crowding)
        gone = await self._without([lost], so_far, dispute.draft)
        why = "it no longer holds beside newer facts, which would not hold beside it"
        gone = replace(gone, failures=(*gone.failures, Failure(lost.id, OUTDONE, why)))
        if not (rest := await self._anew.worse(gone.change, dispute.kept, dispute.draft)):
            return gone
        leaning = await self._with_their_subjects(dispute, rest, gone)  # they were taught with a mark that has gone
        if (found := await self._taught_together(dispute, leaning, gone)) is not None:
            return found
        if new := [each for each in leaning if each.id in dispute.members] or dispute.new:
            raise CrowdedOut(new)
        ids = {each.id for each in leaning}
        return Settled(
            (await self._without(leaning, gone, dispute.draft)).change,
            tuple(each for each in gone.taught_again if each.edit_id not in ids),
            (*gone.failures, *(Failure(each.id, OUTDONE, why) for each in leaning)),
        )

    async def _taught_together(self, dispute: _Dispute, records: Sequence[EditRecord], so_far: Settled) -> Settled | None:
        """These taken out and taught as one batch; None when one of them, or of those to be kept, does not hold then."""
        without = await self._without(records, so_far, dispute.draft)
        found = await self._anew.taught(records, without, dispute.draft)
        if len(found.failures) > len(so_far.failures):
            return None
        return None if await self._anew.worse(found.change, dispute.kept, dispute.draft) else found

    async def _without(self, edits: Sequence[EditRecord], so_far: Settled, draft: Draft | None) -> Settled:
        """What it comes to without these, those of them that it adds and those that were there."""
        ids = [each.id for each in edits]
        added = so_far.change.without(ids)
        after = await self._thread.run(self._resident.changed, draft, added)
        taken = await self._shares.of(edits, after)
        assert taken is not None  # slots always know their share
        return replace(so_far, change=taken.after(added))

    async def _with_their_subjects(self, dispute: _Dispute, edits: Sequence[EditRecord], so_far: Settled) -> list[EditRecord]:
        """These, and the others to be kept that share a mark with one of them, or with one that does."""
        after = await self._thread.run(self._resident.changed, dispute.draft, so_far.change)
        kept = {each.id for each in dispute.kept}
        found, new = set[int](), {each.id for each in edits}
        while new:
            found |= new
            new = kept & await self._thread.run(partial(self._resident.sharing, *sorted(new), draft=after)) - found
        return [each for each in dispute.kept if each.id in found]

    async def _crowding(self, dispute: _Dispute, costs: Sequence[EditRecord], so_far: Settled) -> list[EditRecord]:
        """Of edits of the batch that do not hold beside applied ones, those about another subject than anybody else's."""
        after = await self._thread.run(self._resident.changed, dispute.draft, so_far.change)
        new = [each for each in costs if each.id in dispute.members and each.id not in dispute.proposed.replacing]
        return [each for each in new if not await self._thread.run(partial(self._resident.sharing, each.id, draft=after))]

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
        ids = drawn(others, min(len(members), self._resident.settings.asked_again), members[0].edit.prompt)
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


@dataclass(slots=True)
class _Dispute:
    """A batch that, with all that it pushed out taught anew, would not hold whole.

    kept   its edits that are in place, and what has been taught anew so far: none of them may be lost
    draft  what the batch was proposed for, in place of what is served
    """

    proposed: Proposed
    kept: list[EditRecord]
    draft: Draft | None

    @property
    def new(self) -> list[EditRecord]:
        return in_place(self.proposed)

    @property
    def members(self) -> frozenset[int]:
        return frozenset(each.id for each in self.proposed.edits)


def _as_settled(proposed: Proposed, found: Settled) -> tuple[Proposed, Settled]:
    """Edits of the batch that were taught again with others are the batch's all the same."""
    again = {each.edit_id: each for each in found.taught_again}
    outcome = proposed.outcome
    after, held = list(outcome.after), list(outcome.holds)
    for index, record in enumerate(proposed.edits):
        if (taught := again.pop(record.id, None)) is not None:
            after[index] = {format: taught.after[format] for format in after[index]}
            held[index] = {format: taught.holds[format] for format in held[index]}
    proposed = replace(proposed, outcome=replace(outcome, after=after, holds=held), change=found.change)
    return proposed, replace(found, taught_again=tuple(again.values()))


def crowds_out(new: EditRecord, others: Sequence[EditRecord]) -> Failure:
    """Why a new edit is refused for the sake of others."""
    named = ", ".join(f"{each.id} ({each.edit.prompt[:80]!r})" for each in others[:5])
    why = f"the model would not tell its subject from those of applied edits, which did not hold beside it: {named}"
    return Failure(new.id, CROWDS_OUT, f"{why}; say more of the subject's name in the prompt, or take those edits back first")


def drawn(others: Sequence[int], count: int, by: str) -> frozenset[int]:
    """`count` of the ids by a lot that a text draws: it and their order alone decide, so that a replay and a rebuild agree."""
    return frozenset(Random(by).sample(others, min(count, len(others))))
