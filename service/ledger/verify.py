"""`errata verify` on what needs no model: the chain, the database's own refusals, the invariants, the objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from service.domain.edits import EditRecord, EventRecord
from service.domain.revisions import (
    GENESIS_HASH,
    Revision,
    content_hash,
    earlier_events_hash,
    edits_hash,
    events_hash,
    row_hash,
    statistics_hash,
)
from service.errors import ForeignObjects, ObjectDamaged
from service.infra.objects import ObjectStore
from service.infra.postgres import Database, UnitOfWork
from service.ledger import integrity, object_owner, recorded
from service.ledger.checkpoints import uses


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that holds, or what of it does not."""

    name: str
    summary: str
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.wrong


async def checks(database: Database, objects: ObjectStore, window: int) -> AsyncIterator[Check]:
    """One after the other, each as soon as it is known. Raises StorageUnavailable."""
    yield await _chain(database)
    missing = await integrity.missing_triggers(database)
    yield Check(
        "append-only",
        "the database refuses changes to history",
        [f"trigger {name} is not there, or switched off: history could be changed" for name in missing],
    )
    for name, (count, words) in (await integrity.violations(database)).items():
        more = [f"and {count - len(words)} more"] if count > len(words) else []
        yield Check(f"invariant {name}", "holds", [*words, *more])
    async with database.snapshot() as work:
        count, wrong = await recorded.requests(work)
        yield Check("requests", f"{count} submissions, the hash of each recomputed from what was asked for", wrong)
        count, wrong = await recorded.outcomes(work)
        yield Check("outcomes", f"{count} edits, the hash of what teaching came to recomputed", wrong)
    try:
        await object_owner.check(database, objects)
    except ForeignObjects as error:
        yield Check("objects", "", [error.detail])
    else:
        yield await _objects(database, objects, window)


async def _chain(database: Database) -> Check:
    """Every row's hash and its link, and everything that a row holds hashes of."""
    wrong: list[str] = []
    previous: Revision | None = None
    count = 0
    async with database.snapshot() as work:
        while page := await work.repository.revisions_after(previous.number if previous else -1):
            for revision in page:
                wrong += _row(revision, previous) + await _contents(work, revision)
                previous, count = revision, count + 1
    head = f", head {previous.row_hash[:16]}…" if previous else ""
    return Check("chain", f"{count} revisions, every hash recomputed{head}", wrong)


def _row(revision: Revision, previous: Revision | None) -> list[str]:
    expected = previous.number + 1 if previous else 0
    if revision.number != expected:
        gone = f"revision {expected}" if revision.number == expected + 1 else f"revisions {expected} to {revision.number - 1}"
        return [f"{gone} missing: after {expected - 1} comes {revision.number}"]
    wrong = []
    if row_hash(revision) != revision.row_hash:
        wrong.append(f"revision {revision.number} has been altered: its row does not have the hash it says")
    if revision.previous_hash != (previous.row_hash if previous else GENESIS_HASH):
        wrong.append(f"revision {revision.number} is not chained to the one before it")
    return wrong


async def _contents(work: UnitOfWork, revision: Revision) -> list[str]:
    """The rows of other tables that the revision's row vouches for."""
    wrong = []
    edits = await work.repository.edits_by_id(revision.edit_ids)
    if lost := [edit_id for edit_id in revision.edit_ids if edit_id not in edits]:
        wrong.append(f"edit {', '.join(map(str, lost))} of revision {revision.number} is missing")
    elif edits_hash((each, edits[each].content()) for each in revision.edit_ids) != revision.edits_hash:
        altered = _altered(edits, await work.repository.events_of(revision.number))
        which = f"edit {', '.join(map(str, altered))}" if altered else f"one of edits {list(revision.edit_ids)}"
        wrong.append(f"{which} of revision {revision.number} has been altered")
    if revision.events_hash is not None:
        events = await work.repository.events_of(revision.number)
        if not _vouched_for(revision, list(events.values())):
            lacking = sorted(set(revision.edit_ids) - events.keys())
            more = sorted(events.keys() - set(revision.edit_ids))
            which = f"the event of edit {', '.join(map(str, lacking))} is missing" if lacking else "an event has been altered"
            named = f" (of edit {', '.join(map(str, more or events))})" if not lacking else ""
            wrong.append(f"{which} at revision {revision.number}{named}")
        if statistics_hash(await work.repository.statistics_of(revision.number)) != revision.statistics_hash:
            wrong.append(f"the statistics of revision {revision.number} have been altered, or are missing")
    return wrong


def _vouched_for(revision: Revision, events: Sequence[EventRecord]) -> bool:
    """By the revision's hash of its events, which before the eleventh schema did not cover all of them."""
    is_earlier = all(value is None for each in events for value in (each.taught_at, each.outcome_hash, each.record_object))
    return revision.events_hash in (events_hash(events), earlier_events_hash(events) if is_earlier else None)


def _altered(edits: Mapping[int, EditRecord], events: Mapping[int, EventRecord]) -> list[int]:
    hashes = {edit_id: content_hash(record.content()) for edit_id, record in edits.items()}
    known = {edit_id: event.content_hash for edit_id, event in events.items()}
    return [edit_id for edit_id, own in sorted(hashes.items()) if known.get(edit_id) not in (None, own)]


async def _objects(database: Database, objects: ObjectStore, window: int) -> Check:
    async with database.snapshot() as work:
        needed = await uses(work, window)
    wrong = []
    for name, what in needed.items():
        try:
            await asyncio.to_thread(objects.get, name)
        except ObjectDamaged as error:
            wrong.append(f"{what}: {error.detail}")
    return Check("objects", f"{len(needed)} needed, every SHA-256 recomputed", wrong)
