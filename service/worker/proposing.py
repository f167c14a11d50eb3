"""A batch's proposal, with what it takes the place of: the same for an edit's first time, a rebuild, and mending an object."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.text_editor import BatchProposal
from editor_core.texts import Edit, Format
from service.domain.edits import EditRecord, same_prompt
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel

T = TypeVar("T")
ShareOf = Callable[[Sequence[EditRecord]], Awaitable[Change | None]]


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a batch became.

    edits       those that the proposal was computed for, in order; `outcome` counts by them
    change      everything that the revision does, with what the edits take the place of
    replaced    ids of applied edits that they take the place of
    tokens      by id: answer tokens that the statistics have seen of each of `edits`
    """

    edits: tuple[EditRecord, ...]
    outcome: BatchProposal
    change: Change
    replaced: tuple[int, ...]
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
    """On the served weights, or on a draft that stands for them. Raises what `TextEditor.propose` raises.

    applied: edits that are in the weights; the shares of those of the same prompts are taken out before the batch is taught.
    """
    replaced = _replaced(records, applied)
    taken = await share_of(replaced) if replaced else None
    run = await thread.run(resident.text_editor.run, [as_edit(record) for record in records], taken)
    steps = run.steps if draft is None else resident.within(draft, run.steps)
    seconds: dict[str, float] = {}
    async for phase, took_s in thread.each(steps):
        seconds[phase] = seconds.get(phase, 0.0) + took_s
    assert run.outcome is not None
    change = Change.of(run.outcome.proposal, [record.id for record in records]).after(taken)
    tokens = await thread.run(_tokens, resident, records)
    return Proposed(tuple(records), run.outcome, change, tuple(record.id for record in replaced), tokens, seconds)


def _replaced(records: Sequence[EditRecord], applied: Sequence[EditRecord]) -> list[EditRecord]:
    """The applied ones of the same prompts, in the order of the batch."""
    by_prompt: dict[str, list[EditRecord]] = {}
    for record in applied:
        by_prompt.setdefault(same_prompt(record.edit.prompt), []).append(record)
    return [old for record in records for old in by_prompt.get(same_prompt(record.edit.prompt), [])]


def _tokens(resident: ResidentModel, records: Sequence[EditRecord]) -> dict[int, int]:
    return {record.id: resident.text_editor.tokens(as_edit(record)) for record in records}


def as_edit(record: EditRecord) -> Edit:
    asked = record.edit
    return Edit(asked.prompt, asked.target, asked.rephrases, asked.unrelated, asked.subject, asked.aliases)


def code_of(error: BaseException) -> str:
    """NonFiniteUpdateError -> non_finite_update."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower() or "error"


def by_name(values: Mapping[Format, T]) -> dict[str, T]:
    """As the ledger keeps it."""
    return {str(format): value for format, value in values.items()}
