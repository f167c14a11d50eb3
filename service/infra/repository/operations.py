"""Operations: what was asked to be taken back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, Select, func, insert, select, update

from service.domain.operations import NewOperation, OperationKind, OperationRecord, OperationState
from service.infra.repository.rows import Rows
from service.infra.tables import operations

UNDER_WAY = (OperationState.ACCEPTED.value, OperationState.APPLYING.value)


class OperationRows(Rows):
    async def insert_operation(self, submission_id: int, asked: NewOperation, after_edit: int) -> int:
        statement = insert(operations).values(
            submission_id=submission_id,
            state=OperationState.ACCEPTED.value,
            after_edit=after_edit,
            actor=asked.actor,
            key_id=asked.key_id,
            **asked.content(),
        )
        created: int = (await self._connection.execute(statement.returning(operations.c.id))).scalar_one()
        return created

    async def operation(self, operation_id: int) -> OperationRecord | None:
        found = await self._operations(select(operations).where(operations.c.id == operation_id))
        return found[0] if found else None

    async def operation_of_submission(self, submission_id: int) -> OperationRecord | None:
        found = await self._operations(select(operations).where(operations.c.submission_id == submission_id))
        return found[0] if found else None

    async def list_operations(self, *, before: int | None, limit: int, key_id: str | None = None) -> list[OperationRecord]:
        """The newest `limit` operations below `before`, newest first: of one key, or of all."""
        statement = select(operations).order_by(operations.c.id.desc()).limit(limit)
        if key_id is not None:
            statement = statement.where(operations.c.key_id == key_id)
        return await self._operations(statement if before is None else statement.where(operations.c.id < before))

    async def unfinished_operations(self, key_id: str) -> tuple[int, int, int]:
        """(how many there are, those of a key, rebuilds among these)."""
        own = operations.c.key_id == key_id
        rebuild = own & (operations.c.kind == OperationKind.REBUILD.value)
        counted = select(func.count(), func.count().filter(own), func.count().filter(rebuild))
        statement = counted.where(operations.c.state.in_(UNDER_WAY))
        count, of_key, rebuilds = (await self._connection.execute(statement)).one()
        return count, of_key, rebuilds

    async def cancel_operation(self, operation_id: int) -> bool:
        """accepted -> failed. False when it is not accepted any more, or not there."""
        accepted = (operations.c.id == operation_id) & (operations.c.state == OperationState.ACCEPTED.value)
        values = {"failure_code": "cancelled", "failure_detail": "by its caller", "finished_at": func.now()}
        statement = update(operations).where(accepted).values(state=OperationState.FAILED.value, **values)
        return await self._changed(statement) == 1

    async def next_operation(self) -> OperationRecord | None:
        """The oldest that is not finished."""
        statement = select(operations).where(operations.c.state.in_(UNDER_WAY)).order_by(operations.c.id).limit(1)
        found = await self._operations(statement)
        return found[0] if found else None

    async def begin_operation(self, operation_id: int) -> OperationRecord | None:
        """accepted | applying -> applying, another attempt."""
        statement = (
            update(operations)
            .where(operations.c.id == operation_id, operations.c.state.in_(UNDER_WAY))
            .values(state=OperationState.APPLYING.value, attempts=operations.c.attempts + 1)
            .returning(operations)
        )
        found = await self._operations(statement)
        return found[0] if found else None

    async def forgive_operation(self, operation_id: int) -> None:
        """One attempt less, if it is still under way."""
        applying = (operations.c.id == operation_id) & (operations.c.state == OperationState.APPLYING.value)
        under_way = applying & (operations.c.attempts > 0)
        await self._connection.execute(update(operations).where(under_way).values(attempts=operations.c.attempts - 1))

    async def finish_operation(self, operation_id: int, revision: int) -> bool:
        """applying -> applied."""
        values = {"state": OperationState.APPLIED.value, "revision": revision, "finished_at": func.now()}
        return await self._finish(operation_id, values)

    async def fail_operation(self, operation_id: int, code: str, detail: str) -> bool:
        """applying -> failed."""
        values = {"state": OperationState.FAILED.value, "failure_code": code, "failure_detail": detail[:2000]}
        return await self._finish(operation_id, {**values, "finished_at": func.now()})

    async def _finish(self, operation_id: int, values: dict[str, Any]) -> bool:
        applying = (operations.c.id == operation_id) & (operations.c.state == OperationState.APPLYING.value)
        return await self._changed(update(operations).where(applying).values(**values)) == 1

    async def _operations(self, statement: Select[Any] | Any) -> list[OperationRecord]:
        return [operation_of(row) for row in (await self._connection.execute(statement)).mappings()]


def operation_of(row: RowMapping) -> OperationRecord:
    asked = NewOperation(
        kind=OperationKind(row["kind"]),
        actor=row["actor"],
        reason=row["reason"],
        edit_id=row["edit_id"],
        to_revision=row["to_revision"],
        without=tuple(row["without"]),
        key_id=row["key_id"],
    )
    return OperationRecord(
        id=row["id"],
        asked=asked,
        state=OperationState(row["state"]),
        after_edit=row["after_edit"],
        attempts=row["attempts"],
        revision=row["revision"],
        failure_code=row["failure_code"],
        failure_detail=row["failure_detail"],
        accepted_at=row["accepted_at"],
        finished_at=row["finished_at"],
    )
