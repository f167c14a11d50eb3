"""Everything that is applied once more, in the order and the batches of its first time, as if other edits had never been."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from editor_core.change import Change
from editor_core.draft import Draft
from service.domain.edits import EditRecord, Failure
from service.worker.beside import Beside, in_place
from service.worker.model_thread import ModelThread
from service.worker.proposing import propose
from service.worker.resident import ResidentModel


def groups(edits: Mapping[int, EditRecord], first_taught: Mapping[int, int]) -> list[list[EditRecord]]:
    """The edits by the revision that brought them into the weights first, oldest first."""
    by_revision: dict[int, list[EditRecord]] = {}
    for edit_id in sorted(edits):
        by_revision.setdefault(first_taught[edit_id], []).append(edits[edit_id])
    return [by_revision[number] for number in sorted(by_revision)]


async def replay_groups(
    resident: ResidentModel,
    thread: ModelThread,
    draft: Draft,
    batches: Sequence[Sequence[EditRecord]],
    beside: Beside,
    progress: Callable[[str], None],
) -> list[Failure]:
    """Teach each group on the draft, which begins at the warm-up, and what it pushes out anew; returns the edits that do not
    hold any more.

    Raises what `FactEditor.propose` raises.
    """
    failures: list[Failure] = []
    there: dict[int, EditRecord] = {}
    total, done = sum(map(len, batches)), 0
    for batch in batches:
        progress(f"rebuilding: {done} of {total} edits")
        proposed = await propose(resident, thread, batch, (), _nothing_to_take_out, draft)
        proposed, settled = await beside.settle(proposed, draft, there)
        await thread.run(resident.change, draft, settled.change, proposed.outcome.proposal.statistics)
        there |= {each.id: each for each in in_place(proposed)}
        there |= {each.edit_id: replace(there[each.edit_id], holds=each.holds) for each in settled.taught_again}
        for failure in settled.failures:
            del there[failure.edit_id]
        failures += (*proposed.failures, *settled.failures)
        done += len(batch)
    return failures


async def _nothing_to_take_out(edits: Sequence[EditRecord], draft: Draft | None) -> Change | None:
    return None
