"""Submissions and edits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from service.domain.callers import NOBODY, Caller
from service.domain.edits import (
    EditRecord,
    EditState,
    Failure,
    NewEdit,
    Outcome,
    RephraseAnswer,
    UnrelatedAnswer,
    same_prompt,
)
from service.infra.repository.rows import Rows
from service.infra.tables import edits, submissions

PENDING = (EditState.ACCEPTED.value, EditState.APPLYING.value)


class EditRows(Rows):
    async def take_key(self, key_id: str, idempotency_key: str) -> bool:
        """Until this transaction ends. False while another transaction has it: that request is still under way."""
        statement = text("SELECT pg_try_advisory_xact_lock(hashtextextended('idempotency ' || :key, 0))")
        key = f"{key_id} {idempotency_key}"
        taken: bool = (await self._connection.execute(statement, {"key": key})).scalar_one()
        return taken

    async def insert_submission(self, idempotency_key: str | None, body_hash: str, asked_by: Caller) -> int | None:
        """The new submission's id, or None when the caller has used the key."""
        statement = (
            postgres_insert(submissions)
            .values(idempotency_key=idempotency_key, body_hash=body_hash, **asdict(asked_by))
            .on_conflict_do_nothing(index_elements=["key_id", "idempotency_key"])
            .returning(submissions.c.id)
        )
        created: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return created

    async def submission_by_key(self, key_id: str, idempotency_key: str) -> tuple[int, str]:
        """(id, body hash) of the caller's submission that used this key."""
        statement = select(submissions.c.id, submissions.c.body_hash).where(
            submissions.c.key_id == key_id, submissions.c.idempotency_key == idempotency_key
        )
        row = (await self._connection.execute(statement)).one()
        return row.id, row.body_hash

    async def insert_edits(self, submission_id: int, new: Sequence[NewEdit], asked_by: Caller = NOBODY) -> list[int]:
        rows = [
            {
                "submission_id": submission_id,
                "state": EditState.ACCEPTED.value,
                "prompt_hash": prompt_hash(each.prompt),
                "subject": each.subject,  # of all rows or of none: they are inserted together
                "aliases": list(each.aliases),
                **asdict(asked_by),
                **each.content(),
            }
            for each in new
        ]
        statement = insert(edits).returning(edits.c.id, sort_by_parameter_order=True)
        return list((await self._connection.execute(statement, rows)).scalars())

    async def edits_of_submission(self, submission_id: int) -> list[EditRecord]:
        return await self._edits(select(edits).where(edits.c.submission_id == submission_id).order_by(edits.c.id))

    async def edit(self, edit_id: int) -> EditRecord | None:
        found = await self._edits(select(edits).where(edits.c.id == edit_id))
        return found[0] if found else None

    async def edits_by_id(self, edit_ids: Sequence[int]) -> dict[int, EditRecord]:
        found: dict[int, EditRecord] = {}
        for start in range(0, len(edit_ids), 10_000):  # a statement may have 65,535 parameters
            chosen = select(edits).where(edits.c.id.in_(edit_ids[start : start + 10_000]))
            found |= {record.id: record for record in await self._edits(chosen)}
        return found

    async def applied_with_prompts(self, prompts: Sequence[str]) -> list[EditRecord]:
        """Applied edits that ask the same as one of these prompts, oldest first."""
        hashes = {prompt_hash(prompt) for prompt in prompts}
        statement = select(edits).where(edits.c.prompt_hash.in_(hashes), edits.c.state == EditState.APPLIED.value)
        return await self._edits(statement.order_by(edits.c.id))

    async def edits_with_prompts(self, prompts: Sequence[str], among: Sequence[int]) -> list[EditRecord]:
        """Those of the given edits that ask the same as one of these prompts, whatever their state, oldest first."""
        hashes = {prompt_hash(prompt) for prompt in prompts}
        found = await self._edits(select(edits).where(edits.c.prompt_hash.in_(hashes)).order_by(edits.c.id))
        wanted = set(among)
        return [record for record in found if record.id in wanted]

    async def list_edits(
        self,
        *,
        after: int,
        limit: int,
        state: EditState | None,
        revision: int | None,
        submission_id: int | None,
        key_id: str | None = None,
    ) -> list[EditRecord]:
        """The next `limit` edits with an id above `after`, oldest first."""
        statement = select(edits).where(edits.c.id > after).order_by(edits.c.id).limit(limit)
        if state is not None:
            statement = statement.where(edits.c.state == state.value)
        if revision is not None:
            statement = statement.where(edits.c.revision == revision)
        if submission_id is not None:
            statement = statement.where(edits.c.submission_id == submission_id)
        if key_id is not None:
            statement = statement.where(edits.c.key_id == key_id)
        return await self._edits(statement)

    async def pending_count(self, key_id: str | None = None) -> int:
        """Edits waiting or being applied: of one key, or of all."""
        statement = select(func.count()).select_from(edits).where(edits.c.state.in_(PENDING))
        if key_id is not None:
            statement = statement.where(edits.c.key_id == key_id)
        return (await self._connection.execute(statement)).scalar_one()

    async def pending_up_to(self, edit_id: int) -> bool:
        """Whether an edit with at most this id is still to be applied."""
        statement = select(edits.c.id).where(edits.c.state.in_(PENDING), edits.c.id <= edit_id).limit(1)
        return (await self._connection.execute(statement)).scalar_one_or_none() is not None

    async def newest_edit(self) -> int:
        newest: int = (await self._connection.execute(select(func.coalesce(func.max(edits.c.id), 0)))).scalar_one()
        return newest

    async def count_by_state(self) -> dict[EditState, int]:
        statement = select(edits.c.state, func.count()).group_by(edits.c.state)
        found = {EditState(state): count for state, count in await self._connection.execute(statement)}
        return {state: found.get(state, 0) for state in EditState}

    async def pending_summary(self) -> tuple[int, float]:
        """(how many edits are pending, age of the oldest of them in seconds)."""
        return await self._summary(edits.c.state.in_(PENDING))

    async def accepted_by_key(self, limit: int, up_to: int | None = None) -> dict[str, list[EditRecord]]:
        """By API key: its oldest accepted edits, at most `limit`, with ids of at most `up_to`, locked for this transaction."""
        accepted = edits.c.state == EditState.ACCEPTED.value
        if up_to is not None:
            accepted &= edits.c.id <= up_to
        found: dict[str, list[EditRecord]] = {}
        for key_id in (await self._connection.execute(select(edits.c.key_id).where(accepted).distinct())).scalars().all():
            statement = select(edits).where(accepted, edits.c.key_id == key_id).order_by(edits.c.id).limit(limit)
            found[key_id] = await self._edits(statement.with_for_update(skip_locked=True))
        return found

    async def accepted_summary(self, up_to: int | None = None) -> tuple[int, float]:
        """(how many edits are accepted, age of the oldest of them in seconds)."""
        accepted = edits.c.state == EditState.ACCEPTED.value
        return await self._summary(accepted if up_to is None else accepted & (edits.c.id <= up_to))

    async def mark_applied(self, outcome: Outcome, batch_id: int, revision: int) -> bool:
        """applying -> applied."""
        statement = (
            update(edits)
            .where(edits.c.id == outcome.edit_id, edits.c.batch_id == batch_id, edits.c.state == EditState.APPLYING.value)
            .values(
                state=EditState.APPLIED.value,
                revision=revision,
                tokens=outcome.tokens,
                answers_before=dict(outcome.before),
                answers_after=dict(outcome.after),
                holds=dict(outcome.holds),
                unrelated_answers=[asdict(each) for each in outcome.unrelated],
                **_found_by(outcome),
                finished_at=func.now(),
            )
        )
        return await self._changed(statement) == 1

    async def mark_taught_again(self, outcome: Outcome, revision: int) -> bool:
        """applied, as it is from now on."""
        statement = (
            update(edits)
            .where(edits.c.id == outcome.edit_id, edits.c.state == EditState.APPLIED.value)
            .values(
                revision=revision,
                answers_after=dict(outcome.after),
                holds=dict(outcome.holds),
                **_found_by(outcome),
                finished_at=func.now(),
            )
        )
        return await self._changed(statement) == 1

    async def mark_failed(self, failure: Failure, before: EditState = EditState.APPLYING) -> bool:
        """applying -> failed, or applied -> failed where a rebuild finds that it no longer holds."""
        values: dict[str, Any] = {
            "failure_code": failure.code,
            "failure_detail": failure.detail[:2000],
            "finished_at": func.now(),
        }
        if failure.tokens is not None:
            values["tokens"] = failure.tokens
        statement = update(edits).where(edits.c.id == failure.edit_id, edits.c.state == before.value)
        return await self._changed(statement.values(state=EditState.FAILED.value, revision=None, **values)) == 1

    async def mark_ended(self, edit_id: int, state: EditState, revision: int) -> bool:
        """applied -> reverted | superseded."""
        statement = update(edits).where(edits.c.id == edit_id, edits.c.state == EditState.APPLIED.value)
        return await self._changed(statement.values(state=state.value, ended_by=revision)) == 1

    async def mark_restored(self, applied_at: Mapping[int, int]) -> int:
        """reverted | superseded | failed | applied otherwise -> applied, by edit id as the revision had it that taught it; how
        many were."""
        restored = 0
        for edit_id, revision in applied_at.items():
            statement = (
                update(edits)
                .where(edits.c.id == edit_id, edits.c.state.not_in(PENDING))
                .values(state=EditState.APPLIED.value, revision=revision, ended_by=None, failure_code=None, failure_detail=None)
            )
            restored += await self._changed(statement)
        return restored

    async def _summary(self, chosen: ColumnElement[bool]) -> tuple[int, float]:
        age = func.coalesce(func.extract("epoch", func.now() - func.min(edits.c.submitted_at)), 0.0)
        count, seconds = (await self._connection.execute(select(func.count(), age).where(chosen))).one()
        return count, float(seconds)

    async def _edits(self, statement: Select[Any] | Any) -> list[EditRecord]:
        return [edit_of(row) for row in (await self._connection.execute(statement)).mappings()]


def prompt_hash(prompt: str) -> str:
    return hashlib.sha256(same_prompt(prompt).encode()).hexdigest()


def _found_by(outcome: Outcome) -> dict[str, Any]:
    """What only an edit with a scope has."""
    return {
        "scope": list(outcome.scope) or None,
        "rephrase_answers": [asdict(each) for each in outcome.rephrases] or None,
    }


def edit_of(row: RowMapping) -> EditRecord:
    return EditRecord(
        id=row["id"],
        submission_id=row["submission_id"],
        edit=NewEdit(
            row["prompt"],
            row["target"],
            tuple(row["rephrases"]),
            tuple(row["unrelated"]),
            row["subject"],
            tuple(row["aliases"]),
        ),
        state=EditState(row["state"]),
        attempts=row["attempts"],
        batch_id=row["batch_id"],
        revision=row["revision"],
        ended_by=row["ended_by"],
        tokens=row["tokens"],
        answers_before=row["answers_before"],
        answers_after=row["answers_after"],
        holds=row["holds"],
        unrelated_answers=tuple(UnrelatedAnswer(**each) for each in row["unrelated_answers"] or ()),
        failure_code=row["failure_code"],
        failure_detail=row["failure_detail"],
        submitted_at=row["submitted_at"],
        finished_at=row["finished_at"],
        scope=tuple(row["scope"] or ()),
        rephrase_answers=tuple(RephraseAnswer(**each) for each in row["rephrase_answers"] or ()),
        asked_by=Caller(row["key_id"], row["actor"]),
    )
