"""The ledger's first revision, and a ledger that was begun before scoped edits taken over: its edits are taught anew."""

from __future__ import annotations

import asyncio

import structlog

from service.domain.revisions import RevisionKind
from service.errors import NotReversible
from service.ledger import read
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.worker.scoped.resident import NO_REVISION
from service.worker.scoped.restore import ScopedRestorer
from service.worker.scoped.taking_back import ScopedTakingBack

log = structlog.get_logger()


async def begin_ledger(taking_back: ScopedTakingBack, lease: Lease) -> None:
    """Commit revision 0 if the ledger is empty."""
    resident = taking_back.resident
    if resident.revision != NO_REVISION:
        return
    candidate = await taking_back.thread.run(resident.candidate, resident.base)
    statistics = await asyncio.to_thread(resident.objects.put, candidate.statistics)
    await commit_revision(taking_back.database, lease, resident.new_revision(0, RevisionKind.BASE, candidate, statistics))
    await taking_back.thread.exchange(resident.adopt, candidate.state, 0)
    log.info("ledger begun", model=resident.name, fingerprint=candidate.fingerprint[:16])


async def follow_or_take_over(restorer: ScopedRestorer, taking_back: ScopedTakingBack, lease: Lease) -> None:
    """Serve the head. Where its edits were taught in another mode, teach them anew first, in one revision."""
    try:
        await restorer.follow()
    except NotReversible as error:
        head = await read.head(taking_back.database)
        assert head is not None
        applied = await read.applied_at(taking_back.database, head.number)
        known = await read.edits_by_id(taking_back.database, sorted(applied))
        log.info("taking a ledger over from another mode", revision=head.number, edits=len(known), detail=error.detail)
        candidate, effects = await taking_back.taught_again([known[each] for each in sorted(known)], {})
        await taking_back.commit(lease, candidate, effects, RevisionKind.REBUILD, number=head.number + 1)
