"""Everything that is applied once more, in the order and the batches of its first time, as if other edits had never been."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from editor_core.change import Change
from editor_core.draft import Draft
from service.domain.edits import EditRecord
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
    progress: Callable[[str], None],
) -> None:
    """Teach each group on the draft, which begins at the warm-up. Raises what `TextEditor.propose` raises."""
    total, done = sum(map(len, batches)), 0
    for batch in batches:
        progress(f"rebuilding: {done} of {total} edits")
        proposed = await propose(resident, thread, batch, (), _nothing_to_take_out, draft)
        await thread.run(resident.change, draft, proposed.change, proposed.outcome.proposal.statistics)
        done += len(batch)


async def _nothing_to_take_out(edits: Sequence[EditRecord]) -> Change | None:
    return None
