"""Taking back: DELETE /edits/{id}, POST /rollback, POST /rebuild, GET /operations, GET /operations/{id}."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from service import failpoints
from service.api.context import AskedBy, Context, Here, IdempotencyKey, OwnKey, problems, refuse_bad_utf8
from service.api.schemas.revisions import OperationOut, OperationsOut, Reason, RebuildIn, RollbackIn
from service.domain.callers import Caller
from service.domain.operations import NewOperation, OperationKind
from service.ledger import operations, read

router = APIRouter(tags=["taking back"])
ERRORS = problems(400, 404, 409, 413, 422, 429, 503)
Id = Annotated[int, Path(ge=1, le=2**62, examples=[17])]
ANONYMOUS = "anonymous"


@router.delete(
    "/edits/{edit_id}",
    status_code=202,
    responses=ERRORS,
    summary="Take one edit back",
    dependencies=[Depends(refuse_bad_utf8)],
)
async def delete_edit(
    edit_id: Id,
    here: Here,
    response: Response,
    asked_by: AskedBy,
    reason: Annotated[Reason | None, Query()] = None,
    idempotency_key: IdempotencyKey = None,
) -> OperationOut:
    """Take one edit out of force; every other answer stays as it is. The edit stays in the ledger, as `reverted`."""
    asked = _asked(OperationKind.SUBTRACT, asked_by, reason, edit_id=edit_id)
    return await _accepted(here, response, asked, idempotency_key)


@router.post("/rollback", status_code=202, responses=ERRORS, summary="Back to a revision")
async def post_rollback(
    body: RollbackIn,
    here: Here,
    response: Response,
    asked_by: AskedBy,
    idempotency_key: IdempotencyKey = None,
) -> OperationOut:
    """The state of an earlier revision exactly, as a new revision: the same weights bit for bit, the same edits applied."""
    asked = _asked(OperationKind.ROLLBACK, asked_by, body.reason, to_revision=body.to_revision)
    return await _accepted(here, response, asked, idempotency_key)


@router.post("/rebuild", status_code=202, responses=ERRORS, summary="As if edits had never been")
async def post_rebuild(
    body: RebuildIn,
    here: Here,
    response: Response,
    asked_by: AskedBy,
    idempotency_key: IdempotencyKey = None,
) -> OperationOut:
    """Teach everything that is applied once more, in the same batches, without these edits, while the model goes on serving."""
    asked = _asked(OperationKind.REBUILD, asked_by, body.reason, without=tuple(sorted(set(body.without))))
    return await _accepted(here, response, asked, idempotency_key)


@router.get("/operations/{operation_id}", responses=problems(404, 503), summary="One operation")
async def get_operation(operation_id: Id, here: Here, own: OwnKey) -> OperationOut:
    return OperationOut.of(await read.get_operation(here.resources.database, operation_id, own))


@router.post("/operations/{operation_id}/cancel", responses=problems(404, 409, 422, 503), summary="Cancel what waits")
async def post_cancel(operation_id: Id, here: Here) -> OperationOut:
    """An operation that no worker has begun fails at once, as `cancelled`."""
    return OperationOut.of(await operations.cancel(here.resources.database, operation_id))


@router.get("/operations", responses=problems(422, 503), summary="What was taken back")
async def list_operations(
    here: Here,
    own: OwnKey,
    before: Annotated[int | None, Query(ge=0, le=2**62, description="Operations with a smaller id.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> OperationsOut:
    """Newest first, page by page."""
    found = await read.list_operations(here.resources.database, before=before, limit=limit + 1, key_id=own)
    page = found[:limit]
    following = f"/operations?before={page[-1].id}&limit={limit}" if len(found) > limit else None
    return OperationsOut(operations=[OperationOut.of(record) for record in page], next=following)


def _asked(kind: OperationKind, asked_by: Caller, reason: str | None, **what: Any) -> NewOperation:
    return NewOperation(kind, asked_by.actor or ANONYMOUS, reason, key_id=asked_by.key_id, **what)


async def _accepted(here: Context, response: Response, asked: NewOperation, idempotency_key: str | None) -> OperationOut:
    failpoints.hit("api.validated")
    resources = here.resources
    settings = resources.settings
    accepted = await operations.accept(
        resources.database,
        asked,
        idempotency_key=idempotency_key,
        window=settings.rollback_window,
        max_waiting=settings.max_waiting_operations,
        max_waiting_per_key=settings.max_waiting_operations_per_key,
    )
    if not accepted.replayed:
        await resources.doorbell.ring([accepted.operation.after_edit])
        failpoints.hit("api.rung")
    response.headers["Location"] = f"/operations/{accepted.operation.id}"
    return OperationOut.of(accepted.operation, accepted.replayed)
