"""What revisions did to edits, and what was applied at any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from service.domain.edits import IN_THE_WEIGHTS, EditEvent
from service.infra.repository.rows import Rows
from service.infra.tables import edit_events


class EventRows(Rows):
    async def insert_events(
        self,
        revision: int,
        events: Mapping[int, EditEvent],
        leaning: Mapping[int, Sequence[int]],
        contents: Mapping[int, str],
    ) -> None:
        """leaning: by edit id, whom it was taught to lean on. contents: by edit id, the hash of what defines it."""
        rows = [
            {
                "edit_id": edit_id,
                "revision": revision,
                "event": event.value,
                "leans_on": list(leaning[edit_id]) if leaning.get(edit_id) else None,
                "content_hash": contents[edit_id],
            }
            for edit_id, event in sorted(events.items())
        ]
        if rows:
            await self._connection.execute(insert(edit_events), rows)

    async def events_of(self, revision: int) -> dict[int, EditEvent]:
        """By edit id."""
        statement = select(edit_events.c.edit_id, edit_events.c.event).where(edit_events.c.revision == revision)
        return {row.edit_id: EditEvent(row.event) for row in await self._connection.execute(statement)}

    async def contents_of(self, revision: int) -> dict[int, str | None]:
        """By edit id: the hash of what defined it when this revision did something to it."""
        statement = select(edit_events.c.edit_id, edit_events.c.content_hash).where(edit_events.c.revision == revision)
        return {row.edit_id: row.content_hash for row in await self._connection.execute(statement)}

    async def applied_at(self, revision: int) -> dict[int, int]:
        """By id of every edit that is in the weights at this revision: the revision that applied it."""
        upto = edit_events.c.revision <= revision
        order = (edit_events.c.edit_id, edit_events.c.revision.desc())
        last = select(edit_events.c.edit_id, edit_events.c.event).where(upto)
        last_of = last.ext(distinct_on(edit_events.c.edit_id)).order_by(*order).subquery()
        applied = select(edit_events.c.edit_id, edit_events.c.revision).where(
            upto, edit_events.c.event == EditEvent.APPLIED.value
        )
        applied_of = applied.ext(distinct_on(edit_events.c.edit_id)).order_by(*order).subquery()
        statement = (
            select(last_of.c.edit_id, applied_of.c.revision)
            .join(applied_of, applied_of.c.edit_id == last_of.c.edit_id)
            .where(last_of.c.event.in_([event.value for event in IN_THE_WEIGHTS]))
        )
        return {row.edit_id: row.revision for row in await self._connection.execute(statement)}
