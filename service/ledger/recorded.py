"""What was asked for, and what teaching it came to, beside the hashes that were taken then."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.edits import EditRecord
from service.domain.operations import OperationRecord
from service.domain.revisions import content_hash
from service.infra.postgres import UnitOfWork
from service.infra.repository.edits import prompt_hash

PAGE = 1000


async def requests(work: UnitOfWork) -> tuple[int, list[str]]:
    """(submissions, those that do not have the hash of their edits, or of their operation, in whatever state these are)."""
    wrong: list[str] = []
    last = count = 0
    while page := await work.repository.submissions_after(last, PAGE):
        edits, operations = await work.repository.asked_by([number for number, _ in page])
        for number, body_hash in page:
            operation, records = operations.get(number), edits.get(number, [])
            asked = operation.asked.content() if operation else [record.edit.content() for record in records]
            if content_hash(asked) != body_hash:
                wrong.append(_not_as_asked(number, records, operation))
        last, count = page[-1][0], count + len(page)
    return count, wrong + await work.repository.without_submission()


def _not_as_asked(number: int, edits: Sequence[EditRecord], operation: OperationRecord | None) -> str:
    if operation is not None:
        return f"operation {operation.id} is not what submission {number} asked for"
    if not edits:
        return f"what submission {number} asked for is missing"
    named = ", ".join(str(record.id) for record in edits)
    return f"submission {number}, of edits {named}: one of them has been altered, or is missing"


async def outcomes(work: UnitOfWork) -> tuple[int, list[str]]:
    """(edits, what of them is not as it was recorded when they were taught, or accepted)."""
    wrong: list[str] = []
    last = count = 0
    while page := await work.repository.list_edits(after=last, limit=PAGE, state=None, revision=None, submission_id=None):
        ids = [record.id for record in page]
        hashes, prompts = await work.repository.outcome_hashes(ids), await work.repository.prompt_hashes(ids)
        for record in page:
            if hashes.get(record.id) not in (None, content_hash(record.outcome())):
                wrong.append(f"what edit {record.id} came to (answers, holds, tokens) has been altered")
            if prompts[record.id] not in (None, prompt_hash(record.edit.prompt)):
                wrong.append(f"edit {record.id} is filed under another prompt than its own")
        last, count = page[-1].id, count + len(page)
    return count, wrong
