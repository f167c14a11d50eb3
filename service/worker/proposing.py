"""A batch's proposal, with what it takes the place of: the same for an edit's first time, a rebuild, and mending an object."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.text_editor import BatchProposal
from editor_core.texts import Edit, Format
from service.domain.edits import EditRecord, Failure, same_prompt
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel

T = TypeVar("T")
ShareOf = Callable[[Sequence[EditRecord], Draft | None], Awaitable[Change | None]]


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a batch became.

    edits       those that the proposal was computed for, in order; `outcome` counts by them
    change      everything that the revision does, with what the edits take the place of
    replaced    ids of applied edits that they take the place of
    replacing   ids of the edits of the batch that take one's place
    failures    edits that the model does not answer with, each with what it says instead
    tokens      by id: answer tokens that the statistics have seen of each of `edits`
    """

    edits: tuple[EditRecord, ...]
    outcome: BatchProposal
    change: Change
    replaced: tuple[int, ...]
    replacing: frozenset[int]
    failures: tuple[Failure, ...]
    tokens: Mapping[int, int]
    seconds: Mapping[str, float] = field(default_factory=dict)


async def propose(
    resident: ResidentModel,
    thread: ModelThread,
    records: Sequence[EditRecord],
    applied: Sequence[EditRecord],
    share_of: ShareOf,
    draft: Draft | None = None,
) -> Proposed:
    """On the served weights, or on a draft that stands for them. Raises what `FactEditor.propose` raises.

    applied: edits of the same prompts that are in the weights. Their shares are taken out before the batch is taught. When the
    edit that was to take one's place does not hold, the one that is there stays as it was: the rest is proposed anew.
    """
    failures: list[Failure] = []
    seconds: dict[str, float] = {}
    left = tuple(records)
    while True:
        replacing = _replacing(left, applied)
        old = tuple(chain.from_iterable(replacing.values()))
        taken = await share_of(old, draft) if old else None
        outcome = await taught(resident, thread, left, taken, draft, seconds)
        tokens = await thread.run(_tokens, resident, left, outcome.refused)
        refused = {left[index].id for index in outcome.refused}
        lost = refused & replacing.keys() if len(left) > len(refused) else frozenset()
        failures += [replace(refusal(left[i], outcome, i), tokens=0 if lost else tokens[left[i].id]) for i in outcome.refused]
        if not lost:
            break
        left = tuple(record for record in left if record.id not in refused)
    change = Change.of(outcome.proposal, [record.id for record in left]).after(taken)
    replaced = tuple(record.id for record in old)
    return Proposed(left, outcome, change, replaced, frozenset(replacing), tuple(failures), tokens, seconds)


def without(proposed: Proposed, failures: Sequence[Failure]) -> Proposed:
    """The same without some edits that hold, each with the reason; the statistics have seen them. Slots alone."""
    gone = [failure.edit_id for failure in failures]
    places = [place for place, record in enumerate(proposed.edits) if record.id in gone]
    outcome = proposed.outcome
    outcome = replace(outcome, proposal=outcome.proposal.without(places), refused=tuple(sorted({*outcome.refused, *places})))
    seen = [replace(failure, tokens=proposed.tokens[failure.edit_id]) for failure in failures]
    return replace(proposed, outcome=outcome, change=proposed.change.without(gone), failures=(*proposed.failures, *seen))


def _replacing(records: Sequence[EditRecord], applied: Sequence[EditRecord]) -> dict[int, list[EditRecord]]:
    """By id of an edit: the applied ones of the same prompt."""
    by_prompt: dict[str, list[EditRecord]] = {}
    for record in applied:
        by_prompt.setdefault(same_prompt(record.edit.prompt), []).append(record)
    found = {record.id: by_prompt.get(same_prompt(record.edit.prompt), []) for record in records}
    return {edit_id: old for edit_id, old in found.items() if old}


async def taught(
    resident: ResidentModel,
    thread: ModelThread,
    records: Sequence[EditRecord],
    taken: Change | None,
    draft: Draft | None,
    seconds: dict[str, float],
) -> BatchProposal:
    """taken: what is done first. Adds to the seconds that each phase has taken. Raises what `FactEditor.propose` raises."""
    run = await thread.run(resident.text_editor.run, [as_edit(record) for record in records], taken)
    steps = run.steps if draft is None else resident.within(draft, run.steps)
    async for phase, took_s in thread.each(steps):
        seconds[phase] = seconds.get(phase, 0.0) + took_s
    assert run.outcome is not None
    return run.outcome


def _tokens(resident: ResidentModel, records: Sequence[EditRecord], refused: Sequence[int]) -> dict[int, int]:
    """Slots: the statistics do not see what is refused. Matrices: they have seen it in the first pass."""
    unseen = set(refused) if resident.has_slots else set()
    return {
        record.id: 0 if index in unseen else resident.text_editor.tokens(as_edit(record))
        for index, record in enumerate(records)
    }


def as_edit(record: EditRecord) -> Edit:
    return Edit(record.edit.prompt, record.edit.target, tuple(record.edit.rephrases), tuple(record.edit.unrelated))


DOES_NOT_HOLD, TOO_MUCH_DAMAGE, CROWDS_OUT = "does_not_hold", "too_much_damage", "crowds_out"
REFUSALS = (DOES_NOT_HOLD, TOO_MUCH_DAMAGE, CROWDS_OUT)  # of edits that were taught with their batch all the same


def refusal(record: EditRecord, outcome: BatchProposal, index: int) -> Failure:
    """Of an edit that does not hold, or does too much damage; index: its place in what was taught."""
    if index in outcome.damaging:
        return Failure(record.id, TOO_MUCH_DAMAGE, outcome.damaging[index])
    return Failure(record.id, DOES_NOT_HOLD, _said_instead(outcome.after[index], outcome.holds[index]))


def code_of(error: BaseException) -> str:
    """NonFiniteUpdateError -> non_finite_update."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower() or "error"


def by_name(values: Mapping[Format, T]) -> dict[str, T]:
    """As the ledger keeps it."""
    return {str(format): value for format, value in values.items()}


def _said_instead(answers: Mapping[Format, str], holds: Mapping[Format, bool]) -> str:
    wrong = ", ".join(f"in {format} format {answers[format][:200]!r}" for format in answers if not holds[format])
    return f"the model would not learn it: asked again it says {wrong}"
