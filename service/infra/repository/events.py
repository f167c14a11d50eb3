"""What revisions did to edits, and what was applied at any of them, with the records of edits that have their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, any_, case, false, func, insert, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from service.domain.edits import IN_THE_WEIGHTS, TAUGHT, EditEvent, EventRecord
from service.infra.repository.rows import Rows
from service.infra.tables import edit_events

BY_PAGE = {"yield_per": 10_000}  # rows that are in memory at once
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

    async def records_at(self, revision: int) -> dict[int, str]:
        """By id of every edit that is in the weights at this revision with a record of its own: the object that holds it."""
        return {edit_id: record async for edit_id, record in self._records(edit_events.c.revision <= revision) if record}

    async def records_changed(self, after: int, up_to: int) -> dict[int, str | None]:
        """By id of every edit with an event above `after`, up to `up_to`: the record that is in force there, or None."""
        between = (edit_events.c.revision > after) & (edit_events.c.revision <= up_to)  # an edit's last event there is its last
        return {edit_id: record async for edit_id, record in self._records(between)}

    async def records_before(self, revision: int, edit_ids: Sequence[int]) -> dict[int, str | None]:
        """By id of each of these edits: the record that it had in force at this revision, or None."""
        of_these = edit_events.c.edit_id == any_(_numbers(edit_ids))
        found = self._records(of_these & (edit_events.c.revision <= revision))
        return {**dict.fromkeys(edit_ids), **{edit_id: record async for edit_id, record in found}}

    async def records_taught_at(self, pairs: Sequence[tuple[int, int]]) -> dict[int, str | None]:
        """Of pairs of an edit and the revision that taught it as it is to be: by edit id, the record that it had there."""
        if not pairs:
            return {}
        edit_ids, revisions = zip(*pairs, strict=True)
        taught = func.unnest(_numbers(edit_ids), _numbers(revisions)).table_valued("edit_id", "revision").render_derived()
        same = (edit_events.c.edit_id == taught.c.edit_id) & (edit_events.c.revision == taught.c.revision)
        statement = select(edit_events.c.edit_id, edit_events.c.record_object).join_from(taught, edit_events, same)
        return {row.edit_id: row.record_object for row in await self._connection.execute(statement)}

    async def needed_records(self, window_begin: int) -> dict[str, int]:
        """By record that some edit has had in force at that revision or since then: the edit."""
        following = func.lead(edit_events.c.revision).over(partition_by=edit_events.c.edit_id, order_by=edit_events.c.revision)
        had = select(edit_events.c.record_object, edit_events.c.edit_id, following.label("until")).subquery()
        ended = func.coalesce(had.c.until <= window_begin, false())
        statement = select(had.c.record_object, func.min(had.c.edit_id)).where(had.c.record_object.is_not(None))
        found = await self._connection.execute(statement.group_by(had.c.record_object).having(~func.bool_and(ended)))
        return {record: edit_id for record, edit_id in found}  # noqa: C416 - rows, not pairs

    async def _records(self, considered: ColumnElement[bool]) -> AsyncIterator[tuple[int, str | None]]:
        """(edit, record) by the last of the events to be considered; no record where that took the edit out."""
        known = (edit_events.c.edit_id, edit_events.c.event, edit_events.c.record_object)
        last = select(*known).where(considered).ext(distinct_on(edit_events.c.edit_id))
        ordered = last.order_by(edit_events.c.edit_id.desc(), edit_events.c.revision.desc())  # as the primary key has them
        found = await self._connection.stream(ordered, execution_options=BY_PAGE)
        async for page in self._each(found.partitions()):  # one by one they would take six times as long
            for edit_id, event, record in page:
                yield edit_id, record if event in IN_THE_WEIGHTS else None


def _numbers(values: Sequence[int]) -> ColumnElement[Sequence[int]]:
    """As one parameter, however many they are."""
    return literal(list(values), ARRAY(BigInteger))


def _applied() -> Select[tuple[int, int]]:
    """There is one such event of an edit: whatever becomes of it later, it is the same edit."""
    return select(edit_events.c.edit_id, edit_events.c.revision).where(edit_events.c.event == EditEvent.APPLIED.value)


def _event(row: dict[str, Any]) -> EventRecord:
    leans_on = None if row["leans_on"] is None else tuple(row["leans_on"])
    return EventRecord(**{**row, "event": EditEvent(row["event"]), "leans_on": leans_on})
