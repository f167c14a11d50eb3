"""What revisions did to edits, and what was applied at any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Select, case, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from service.domain.edits import IN_THE_WEIGHTS, TAUGHT, EditEvent, EventRecord
from service.infra.repository.rows import Rows
from service.infra.tables import edit_events

COLUMNS = [edit_events.c[each.name] for each in fields(EventRecord)]


class EventRows(Rows):
    async def insert_events(self, revision: int, events: Sequence[EventRecord]) -> None:
        rows = [
            {
                **{each.name: getattr(event, each.name) for each in fields(event)},
                "revision": revision,
                "event": event.event.value,
                "leans_on": None if event.leans_on is None else list(event.leans_on),
            }
            for event in events
        ]
        if rows:
            await self._connection.execute(insert(edit_events), rows)

    async def events_of(self, revision: int) -> dict[int, EventRecord]:
        """By edit id."""
        statement = select(*COLUMNS).where(edit_events.c.revision == revision).order_by(edit_events.c.edit_id)
        found = (await self._connection.execute(statement)).mappings()
        return {row["edit_id"]: _event(dict(row)) for row in found}

    async def events_about(self, edit_id: int) -> dict[int, EventRecord]:
        """By revision, oldest first."""
        statement = (
            select(edit_events.c.revision, *COLUMNS).where(edit_events.c.edit_id == edit_id).order_by(edit_events.c.revision)
        )
        rows = [dict(row) for row in (await self._connection.execute(statement)).mappings()]
        return {row.pop("revision"): _event(row) for row in rows}

    async def outcome_hashes(self, edit_ids: Sequence[int]) -> dict[int, str | None]:
        """By id of every edit that was ever taught: the hash of what the last time came to, if it is known."""
        taught = select(edit_events.c.edit_id, edit_events.c.outcome_hash).where(
            edit_events.c.edit_id.in_(edit_ids), edit_events.c.event.in_([event.value for event in TAUGHT])
        )
        last = taught.ext(distinct_on(edit_events.c.edit_id)).order_by(edit_events.c.edit_id, edit_events.c.revision.desc())
        return {row.edit_id: row.outcome_hash for row in await self._connection.execute(last)}

    async def first_taught(self) -> dict[int, int]:
        """By id of every edit that was ever in the weights: the revision that brought it there first."""
        return {row.edit_id: row.revision for row in await self._connection.execute(_applied())}

    async def applied_at(self, revision: int) -> dict[int, int]:
        """By id of every edit that is in the weights at this revision: the revision that taught it as it is there."""
        known = (edit_events.c.edit_id, edit_events.c.event, edit_events.c.revision, edit_events.c.taught_at)
        order = (edit_events.c.edit_id, edit_events.c.revision.desc())
        upto = select(*known).where(edit_events.c.revision <= revision)
        last = upto.ext(distinct_on(edit_events.c.edit_id)).order_by(*order).subquery()
        first = _applied().subquery()
        taught_at = case(
            (last.c.event == EditEvent.RESTORED.value, func.coalesce(last.c.taught_at, first.c.revision)), else_=last.c.revision
        )
        statement = (
            select(last.c.edit_id, taught_at.label("taught_at"))
            .join(first, first.c.edit_id == last.c.edit_id)
            .where(last.c.event.in_([event.value for event in IN_THE_WEIGHTS]))
        )
        return {row.edit_id: row.taught_at for row in await self._connection.execute(statement)}


def _applied() -> Select[tuple[int, int]]:
    """There is one such event of an edit: whatever becomes of it later, it is the same edit."""
    return select(edit_events.c.edit_id, edit_events.c.revision).where(edit_events.c.event == EditEvent.APPLIED.value)


def _event(row: dict[str, Any]) -> EventRecord:
    leans_on = None if row["leans_on"] is None else tuple(row["leans_on"])
    return EventRecord(**{**row, "event": EditEvent(row["event"]), "leans_on": leans_on})
