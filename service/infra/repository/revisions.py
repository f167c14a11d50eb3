"""Revisions and their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, insert, select

from service.domain.revisions import ModuleNorms, NewRevision, Revision, RevisionKind, StatisticsSummary
from service.infra.repository.rows import Rows
from service.infra.tables import revisions, statistics


class RevisionRows(Rows):
    async def head(self) -> Revision | None:
        found = await self._revisions(select(revisions).order_by(revisions.c.number.desc()).limit(1))
        return found[0] if found else None

    async def revision(self, number: int) -> Revision | None:
        found = await self._revisions(select(revisions).where(revisions.c.number == number))
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
        **since: Any,
    ) -> None:
        """since: operation_id, actor, reason and events_hash, which may be None."""
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
                source=new.source,
                **since,
            )
        )
        if new.statistics:
            rows = [{"revision": new.number, **asdict(each)} for each in new.statistics]
            await self._connection.execute(insert(statistics), rows)

    async def statistics_of(self, revision: int) -> list[StatisticsSummary]:
        statement = select(statistics).where(statistics.c.revision == revision).order_by(statistics.c.d_in, statistics.c.d_out)
        rows = (await self._connection.execute(statement)).mappings()
        return [StatisticsSummary(**{name: value for name, value in row.items() if name != "revision"}) for row in rows]

    async def _revisions(self, statement: Select[Any]) -> list[Revision]:
        return [_revision(row) for row in (await self._connection.execute(statement)).mappings()]


def _revision(row: RowMapping) -> Revision:
    values = dict(row)
    values["kind"] = RevisionKind(row["kind"])
    values["norms"] = {name: ModuleNorms(**norms) for name, norms in row["norms"].items()}
    values["edit_ids"] = tuple(row["edit_ids"])
    return Revision(**values)
