"""Submissions with everything that they asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, text

from service.domain.edits import EditRecord
from service.domain.operations import OperationRecord
from service.infra.repository.edits import edit_of
from service.infra.repository.operations import operation_of
from service.infra.repository.rows import Rows
from service.infra.tables import edits, operations, submissions


class RequestRows(Rows):
    async def submissions_after(self, number: int, limit: int) -> list[tuple[int, str]]:
        """(id, body hash) of the next ones, in order."""
        statement = select(submissions.c.id, submissions.c.body_hash).where(submissions.c.id > number)
        found = await self._connection.execute(statement.order_by(submissions.c.id).limit(limit))
        return [(row.id, row.body_hash) for row in found]

    async def asked_by(self, numbers: Sequence[int]) -> tuple[dict[int, list[EditRecord]], dict[int, OperationRecord]]:
        """By submission: its edits, oldest first, or its operation."""
        chosen = select(edits).where(edits.c.submission_id.in_(numbers)).order_by(edits.c.id)
        by_submission: dict[int, list[EditRecord]] = {}
        for row in (await self._connection.execute(chosen)).mappings():
            by_submission.setdefault(row["submission_id"], []).append(edit_of(row))
        asked = select(operations).where(operations.c.submission_id.in_(numbers))
        found = (await self._connection.execute(asked)).mappings()
        return by_submission, {row["submission_id"]: operation_of(row) for row in found}

    async def without_submission(self) -> list[str]:
        """Edits and operations that nobody asked for, in words."""
        statement = text("""
            SELECT what || ' ' || asked.id || ' is of submission ' || submission_id || ', which is missing'
            FROM (
                SELECT 'edit' AS what, id, submission_id FROM edits
                UNION ALL SELECT 'operation', id, submission_id FROM operations
            ) AS asked LEFT JOIN submissions ON submissions.id = submission_id
            WHERE submissions.id IS NULL ORDER BY submission_id, asked.id
        """)
        return list((await self._connection.execute(statement)).scalars())

    async def prompt_hashes(self, edit_ids: Sequence[int]) -> dict[int, str | None]:
        """By edit id: the hash that its prompt is found by."""
        statement = select(edits.c.id, edits.c.prompt_hash).where(edits.c.id.in_(edit_ids))
        return {row.id: row.prompt_hash for row in await self._connection.execute(statement)}
