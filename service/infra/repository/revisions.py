"""Revisions and their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import RowMapping, Select, insert, select

from service.domain.callers import callers_of
from service.domain.revisions import ModuleNorms, Revision, RevisionKind, StatisticsSummary
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

    async def insert_revision(self, revision: Revision, summaries: Sequence[StatisticsSummary]) -> None:
        values = {each.name: getattr(revision, each.name) for each in fields(revision)}
        values["kind"] = revision.kind.value
        values["norms"] = {name: asdict(norms) for name, norms in revision.norms.items()}
        values["edit_ids"] = list(revision.edit_ids)
        values["asked_by"] = [asdict(each) for each in revision.asked_by]
        await self._connection.execute(insert(revisions).values(**values))
        if summaries:
            rows = [{"revision": revision.number, **asdict(each)} for each in summaries]
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
    values["asked_by"] = callers_of(row["asked_by"])
    return Revision(**values)
