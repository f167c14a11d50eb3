"""The first two revisions: 0 is the model as it was loaded, 1 the warm-up of the statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from editor_core.change import Change
from service.domain.revisions import NewRevision, RevisionKind
from service.infra.objects import ObjectStore
from service.infra.postgres import Database
from service.ledger.commit import commit_revision
from service.ledger.lease import Lease
from service.settings import Settings
from service.worker.facts import read_facts
from service.worker.model_thread import ModelThread
from service.worker.resident import NO_REVISION, ResidentModel

log = structlog.get_logger()
BATCH_SIZE = 10


async def begin_ledger(resident: ResidentModel, thread: ModelThread, database: Database, lease: Lease) -> None:
    """Commit revision 0 if the ledger is empty."""
    if resident.revision != NO_REVISION:
        return
    fingerprint = await thread.run(resident.editor.masters.fingerprint)
    base = NewRevision(0, RevisionKind.BASE, None, None, fingerprint, resident.config_hash, {}, (), passes=0, rows=0)
    await commit_revision(database, lease, base)
    resident.revision = 0
    log.info("ledger begun", model=resident.name, fingerprint=fingerprint[:16])


async def warm_up(
    resident: ResidentModel,
    thread: ModelThread,
    database: Database,
    objects: ObjectStore,
    lease: Lease,
    settings: Settings,
    progress: Callable[[str], None],
) -> None:
    """Edit the warm-up facts before the first edit, and commit that as a revision. Does nothing on a ledger past revision 0."""
    if resident.revision != 0:
        return
    facts = read_facts(settings)
    proposal = None
    steps = resident.text_editor.warm_up(facts, BATCH_SIZE)
    async for (seen, proposal), _ in thread.each(steps):  # noqa: B007 the last one brings the proposal
        progress(f"warm-up: {seen} of {len(facts)} facts")
    assert proposal is not None
    candidate = await thread.run(resident.prepare, Change.of(proposal), proposal.statistics, proposal.norms, proposal.parent)
    stored = await asyncio.to_thread(objects.put, candidate.update) if candidate.update else None
    statistics = await asyncio.to_thread(objects.put, candidate.statistics)
    await commit_revision(database, lease, resident.new_revision(1, RevisionKind.WARMUP, candidate, (stored, statistics), 1))
    await thread.change(resident.adopt, candidate.draft, 1, candidate.updates)
    log.info(
        "warm-up done",
        facts=len(facts),
        rows={f"{s.d_in}x{s.d_out}": s.n for s in candidate.summaries},
    )
