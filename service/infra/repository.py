"""All SQL of the service. One instance per transaction; every change of state is a guarded UPDATE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.edits import EditRecord, EditState, Failure, NewEdit, Outcome, UnrelatedAnswer
from service.domain.revisions import ModuleNorms, NewRevision, Revision, RevisionKind, StatisticsSummary
from service.infra.tables import batches, edits, revisions, statistics, submissions, writer_lease

PENDING = (EditState.ACCEPTED.value, EditState.APPLYING.value)


class Repository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def ping(self) -> None:
        await self._connection.execute(text("SELECT 1"))

    # --- submissions and edits -----------------------------------------------------------------------------------

    async def insert_submission(self, idempotency_key: str | None, body_hash: str) -> int | None:
        """The new submission's id, or None when the key is taken (waits for a transaction that is just taking it)."""
        statement = (
            postgres_insert(submissions)
            .values(idempotency_key=idempotency_key, body_hash=body_hash)
            .on_conflict_do_nothing(index_elements=["idempotency_key"])
            .returning(submissions.c.id)
        )
        created: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return created

    async def submission_by_key(self, idempotency_key: str) -> tuple[int, str]:
        """(id, body hash) of the submission that used this key."""
        statement = select(submissions.c.id, submissions.c.body_hash).where(submissions.c.idempotency_key == idempotency_key)
        row = (await self._connection.execute(statement)).one()
        return row.id, row.body_hash

    async def insert_edits(self, submission_id: int, new: Sequence[NewEdit]) -> list[int]:
        rows = [{"submission_id": submission_id, "state": EditState.ACCEPTED.value, **each.content()} for each in new]
        statement = insert(edits).returning(edits.c.id, sort_by_parameter_order=True)
        return list((await self._connection.execute(statement, rows)).scalars())

    async def edits_of_submission(self, submission_id: int) -> list[EditRecord]:
        return await self._edits(select(edits).where(edits.c.submission_id == submission_id).order_by(edits.c.id))

    async def edit(self, edit_id: int) -> EditRecord | None:
        found = await self._edits(select(edits).where(edits.c.id == edit_id))
        return found[0] if found else None

    async def list_edits(
        self, *, after: int, limit: int, state: EditState | None, revision: int | None, submission_id: int | None
    ) -> list[EditRecord]:
        """The next `limit` edits with an id above `after`, oldest first."""
        statement = select(edits).where(edits.c.id > after).order_by(edits.c.id).limit(limit)
        if state is not None:
            statement = statement.where(edits.c.state == state.value)
        if revision is not None:
            statement = statement.where(edits.c.revision == revision)
        if submission_id is not None:
            statement = statement.where(edits.c.submission_id == submission_id)
        return await self._edits(statement)

    async def pending_count(self) -> int:
        statement = select(func.count()).select_from(edits).where(edits.c.state.in_(PENDING))
        return (await self._connection.execute(statement)).scalar_one()

    async def count_by_state(self) -> dict[EditState, int]:
        statement = select(edits.c.state, func.count()).group_by(edits.c.state)
        found = {EditState(state): count for state, count in await self._connection.execute(statement)}
        return {state: found.get(state, 0) for state in EditState}

    async def oldest_pending_age_s(self) -> float:
        statement = select(func.coalesce(func.extract("epoch", func.now() - func.min(edits.c.submitted_at)), 0.0))
        return float((await self._connection.execute(statement.where(edits.c.state.in_(PENDING)))).scalar_one())

    async def accepted(self, limit: int) -> list[EditRecord]:
        """The oldest accepted edits, locked for this transaction."""
        statement = select(edits).where(edits.c.state == EditState.ACCEPTED.value).order_by(edits.c.id).limit(limit)
        return await self._edits(statement.with_for_update(skip_locked=True))

    async def accepted_summary(self) -> tuple[int, float]:
        """(how many edits are accepted, age of the oldest of them in seconds)."""
        age = func.coalesce(func.extract("epoch", func.now() - func.min(edits.c.submitted_at)), 0.0)
        statement = select(func.count(), age).where(edits.c.state == EditState.ACCEPTED.value)
        count, seconds = (await self._connection.execute(statement)).one()
        return count, float(seconds)

    # --- batches -------------------------------------------------------------------------------------------------

    async def insert_batch(self, epoch: int) -> int:
        statement = insert(batches).values(state="applying", epoch=epoch).returning(batches.c.id)
        created: int = (await self._connection.execute(statement)).scalar_one()
        return created

    async def interrupted_batches(self, epoch: int) -> list[int]:
        """Batches that an earlier epoch left unfinished, oldest first."""
        statement = select(batches.c.id).where(batches.c.state == "applying", batches.c.epoch < epoch).order_by(batches.c.id)
        return list((await self._connection.execute(statement)).scalars())

    async def readopt_batch(self, batch_id: int, epoch: int) -> None:
        await self._connection.execute(
            update(batches).where(batches.c.id == batch_id, batches.c.state == "applying").values(epoch=epoch)
        )

    async def finish_batch(self, batch_id: int, state: str) -> bool:
        statement = (
            update(batches)
            .where(batches.c.id == batch_id, batches.c.state == "applying")
            .values(state=state, finished_at=func.now())
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def edits_of_batch(self, batch_id: int) -> list[EditRecord]:
        statement = select(edits).where(edits.c.batch_id == batch_id, edits.c.state == EditState.APPLYING.value)
        return await self._edits(statement.order_by(edits.c.id))

    async def claim(self, edit_ids: Sequence[int], batch_id: int) -> list[EditRecord]:
        """accepted -> applying."""
        statement = (
            update(edits)
            .where(edits.c.id.in_(edit_ids), edits.c.state == EditState.ACCEPTED.value)
            .values(state=EditState.APPLYING.value, batch_id=batch_id, attempts=edits.c.attempts + 1)
            .returning(edits)
        )
        return sorted(await self._edits(statement), key=lambda record: record.id)

    async def claim_again(self, batch_id: int) -> list[EditRecord]:
        """Count another attempt for a batch that was interrupted."""
        statement = (
            update(edits)
            .where(edits.c.batch_id == batch_id, edits.c.state == EditState.APPLYING.value)
            .values(attempts=edits.c.attempts + 1)
            .returning(edits)
        )
        return sorted(await self._edits(statement), key=lambda record: record.id)

    async def move_to_batch(self, edit_ids: Sequence[int], from_batch: int, to_batch: int) -> int:
        statement = (
            update(edits)
            .where(edits.c.id.in_(edit_ids), edits.c.batch_id == from_batch, edits.c.state == EditState.APPLYING.value)
            .values(batch_id=to_batch)
        )
        return (await self._connection.execute(statement)).rowcount

    async def mark_applied(self, outcome: Outcome, batch_id: int, revision: int) -> bool:
        """applying -> applied."""
        statement = (
            update(edits)
            .where(edits.c.id == outcome.edit_id, edits.c.batch_id == batch_id, edits.c.state == EditState.APPLYING.value)
            .values(
                state=EditState.APPLIED.value,
                revision=revision,
                answers_before=dict(outcome.before),
                answers_after=dict(outcome.after),
                holds=dict(outcome.holds),
                unrelated_answers=[asdict(each) for each in outcome.unrelated],
                finished_at=func.now(),
            )
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def mark_failed(self, failure: Failure) -> bool:
        """applying -> failed."""
        statement = (
            update(edits)
            .where(edits.c.id == failure.edit_id, edits.c.state == EditState.APPLYING.value)
            .values(
                state=EditState.FAILED.value,
                failure_code=failure.code,
                failure_detail=failure.detail[:2000],
                finished_at=func.now(),
            )
        )
        return (await self._connection.execute(statement)).rowcount == 1

    # --- revisions and statistics --------------------------------------------------------------------------------

    async def head(self) -> Revision | None:
        found = await self._revisions(select(revisions).order_by(revisions.c.number.desc()).limit(1))
        return found[0] if found else None

    async def revisions_after(self, number: int, limit: int = 1000) -> list[Revision]:
        statement = select(revisions).where(revisions.c.number > number).order_by(revisions.c.number).limit(limit)
        return await self._revisions(statement)

    async def list_revisions(self, *, before: int | None, limit: int) -> list[Revision]:
        """The newest `limit` revisions below `before`, newest first."""
        statement = select(revisions).order_by(revisions.c.number.desc()).limit(limit)
        return await self._revisions(statement if before is None else statement.where(revisions.c.number < before))

    async def insert_revision(
        self,
        new: NewRevision,
        *,
        batch_id: int | None,
        epoch: int,
        edit_ids: Sequence[int],
        edits_hash: str,
        previous_hash: str,
        row_hash: str,
        created_at: datetime,
    ) -> None:
        await self._connection.execute(
            insert(revisions).values(
                number=new.number,
                kind=new.kind.value,
                batch_id=batch_id,
                epoch=epoch,
                update_object=new.update_object,
                statistics_object=new.statistics_object,
                fingerprint=new.fingerprint,
                config_hash=new.config_hash,
                norms={name: asdict(norms) for name, norms in new.norms.items()},
                passes=new.passes,
                rows=new.rows,
                edit_ids=list(edit_ids),
                edits_hash=edits_hash,
                previous_hash=previous_hash,
                row_hash=row_hash,
                created_at=created_at,
            )
        )
        if new.statistics:
            rows = [{"revision": new.number, **asdict(each)} for each in new.statistics]
            await self._connection.execute(insert(statistics), rows)

    async def statistics_of(self, revision: int) -> list[StatisticsSummary]:
        statement = select(statistics).where(statistics.c.revision == revision).order_by(statistics.c.d_in, statistics.c.d_out)
        rows = (await self._connection.execute(statement)).mappings()
        return [StatisticsSummary(**{name: value for name, value in row.items() if name != "revision"}) for row in rows]

    # --- the writer lease ----------------------------------------------------------------------------------------

    async def acquire_lease(self, holder: str, ttl_s: float) -> int | None:
        """The new epoch, or None while another holder's lease runs. The database's clock decides."""
        expires = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, ttl_s)
        statement = (
            postgres_insert(writer_lease)
            .values(id=1, holder=holder, epoch=1, expires_at=expires)
            .on_conflict_do_update(
                index_elements=["id"],
                set_={"holder": holder, "epoch": writer_lease.c.epoch + 1, "expires_at": expires},
                where=writer_lease.c.expires_at <= func.now(),
            )
            .returning(writer_lease.c.epoch)
        )
        epoch: int | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return epoch

    async def renew_lease(self, holder: str, epoch: int, ttl_s: float) -> bool:
        """False when the lease is no longer this holder's, or has run out."""
        expires = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, ttl_s)
        return await self._change_lease(holder, epoch, expires)

    async def release_lease(self, holder: str, epoch: int) -> bool:
        return await self._change_lease(holder, epoch, func.now())

    async def _change_lease(self, holder: str, epoch: int, expires: Any) -> bool:
        mine = (writer_lease.c.holder == holder) & (writer_lease.c.epoch == epoch) & (writer_lease.c.expires_at > func.now())
        statement = update(writer_lease).where(mine).values(expires_at=expires)
        return (await self._connection.execute(statement)).rowcount == 1

    async def lock_lease(self, holder: str, epoch: int) -> bool:
        """Whether the lease is ours; if so nobody can take it until this transaction ends."""
        mine = (writer_lease.c.holder == holder) & (writer_lease.c.epoch == epoch) & (writer_lease.c.expires_at > func.now())
        statement = select(writer_lease.c.epoch).where(mine).with_for_update()
        return (await self._connection.execute(statement)).scalar_one_or_none() is not None

    async def lease(self) -> tuple[str, int, bool] | None:
        """(holder, epoch, whether it is still running)."""
        statement = select(writer_lease.c.holder, writer_lease.c.epoch, writer_lease.c.expires_at > func.now())
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else (row[0], row[1], row[2])

    # --- rows to values ------------------------------------------------------------------------------------------

    async def _edits(self, statement: Select[Any] | Any) -> list[EditRecord]:
        return [_edit(row) for row in (await self._connection.execute(statement)).mappings()]

    async def _revisions(self, statement: Select[Any]) -> list[Revision]:
        return [_revision(row) for row in (await self._connection.execute(statement)).mappings()]


def _edit(row: RowMapping) -> EditRecord:
    return EditRecord(
        id=row["id"],
        submission_id=row["submission_id"],
        edit=NewEdit(row["prompt"], row["target"], tuple(row["rephrases"]), tuple(row["unrelated"])),
        state=EditState(row["state"]),
        attempts=row["attempts"],
        batch_id=row["batch_id"],
        revision=row["revision"],
        answers_before=row["answers_before"],
        answers_after=row["answers_after"],
        holds=row["holds"],
        unrelated_answers=tuple(UnrelatedAnswer(**each) for each in row["unrelated_answers"] or ()),
        failure_code=row["failure_code"],
        failure_detail=row["failure_detail"],
        submitted_at=row["submitted_at"],
        finished_at=row["finished_at"],
    )


def _revision(row: RowMapping) -> Revision:
    values = dict(row)
    values["kind"] = RevisionKind(row["kind"])
    values["norms"] = {name: ModuleNorms(**norms) for name, norms in row["norms"].items()}
    values["edit_ids"] = tuple(row["edit_ids"])
    return Revision(**values)
