"""GET /revisions and GET /stats: what the ledger says."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.context import Here, problems
from service.api.schemas.revisions import RevisionOut, RevisionsOut
from service.api.schemas.state import HeadOut, QueueOut, StatsOut, WorkerOut, WriterOut
from service.errors import StorageUnavailable
from service.ledger import read

router = APIRouter(tags=["ledger"])


@router.get("/revisions", responses=problems(422, 503), summary="Changes of the model")
async def list_revisions(
    here: Here,
    before: Annotated[int | None, Query(ge=0, le=2**62, description="Revisions with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RevisionsOut:
    """Newest first, page by page. Each row is hash-chained to the one before."""
    found = await read.list_revisions(here.resources.database, before=before, limit=limit + 1)
    page = found[:limit]
    following = f"/revisions?before={page[-1].number}&limit={limit}" if len(found) > limit else None
    return RevisionsOut(revisions=[RevisionOut.of(revision) for revision in page], next=following)


@router.get("/stats", responses=problems(503), summary="How it is doing")
async def stats(here: Here) -> StatsOut:
    """Queue, states, head revision, lifelong statistics per shape, norms per layer, and the workers."""
    found = await read.stats(here.resources.database)
    head = found.head
    try:
        workers = await here.resources.presence.workers()
    except StorageUnavailable:
        workers = []  # the ledger's part is worth having without Redis
    return StatsOut(
        queue=QueueOut(depth=found.queue_depth, oldest_pending_age_s=found.oldest_pending_age_s),
        edits_by_state={state.value: count for state, count in found.edits_by_state.items()},
        head=HeadOut(
            number=head.number,
            kind=head.kind.value,
            fingerprint=head.fingerprint,
            row_hash=head.row_hash,
            created_at=head.created_at,
        )
        if head
        else None,
        statistics=list(found.statistics),
        layers=dict(head.norms) if head else {},
        writer=WriterOut(holder=found.lease[0], epoch=found.lease[1], lease_running=found.lease[2]) if found.lease else None,
        workers=[WorkerOut.model_validate(worker, from_attributes=True) for worker in workers],
    )
