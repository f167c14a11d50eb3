"""POST /edits, GET /edits, GET /edits/{id}, GET /edits/{id}/history, POST /edits/{id}/retry, POST /edits/{id}/cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Response

from service import failpoints, metrics
from service.api.context import AskedBy, Context, Here, IdempotencyKey, OwnKey, OwnKeyOfChange, problems
from service.api.schemas.edits import EditIn, EditLink, EditOut, EditsOut, EventOut, HistoryOut, SubmissionOut, Submit
from service.domain.callers import Caller
from service.domain.edits import EditState, NewEdit
from service.errors import NotReversible
from service.ledger import read
from service.ledger.submit import Quotas, cancel_edit, submit
from service.settings import Settings

router = APIRouter(tags=["edits"])
EditId = Annotated[int, Path(ge=1, le=2**62, examples=[17])]


@router.post("/edits", status_code=202, responses=problems(400, 409, 413, 422, 429, 503), summary="Change facts")
async def post_edits(
    body: Submit,
    here: Here,
    response: Response,
    asked_by: AskedBy,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionOut:
    """Accept one edit, or several under `edits`. At 202 they are committed to the ledger and will be applied once; with an
    `Idempotency-Key` also when the request is repeated."""
    failpoints.hit("api.validated")
    wanted = [body] if isinstance(body, EditIn) else body.edits
    return await _accepted(here, response, [_new_edit(each) for each in wanted], asked_by, idempotency_key)


@router.post(
    "/edits/{edit_id}/retry",
    status_code=202,
    responses=problems(400, 404, 409, 422, 429, 503),
    summary="Take a failed edit up again",
)
async def post_retry(
    edit_id: EditId,
    here: Here,
    response: Response,
    asked_by: AskedBy,
    own: OwnKey,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionOut:
    """Submit the fact of a failed edit once more, as a new edit: for what failed on an earlier model, key or machine."""
    record = await read.get_edit(here.resources.database, edit_id, own)
    if record.state is not EditState.FAILED:
        raise NotReversible(f"edit {edit_id} is {record.state}: only what has failed is taken up again", code="edit_not_failed")
    return await _accepted(here, response, [record.edit], asked_by, idempotency_key)


@router.post("/edits/{edit_id}/cancel", responses=problems(404, 409, 422, 503), summary="Cancel an edit that waits")
async def post_cancel(edit_id: EditId, here: Here, own: OwnKeyOfChange) -> EditOut:
    """An edit that no worker has taken fails at once, as `cancelled`. What is in force is taken back by `DELETE`."""
    return EditOut.of(await cancel_edit(here.resources.database, edit_id, own))


async def _accepted(
    here: Context, response: Response, new: Sequence[NewEdit], asked_by: Caller, idempotency_key: str | None
) -> SubmissionOut:
    resources = here.resources
    accepted = await submit(
        resources.database, new, idempotency_key=idempotency_key, quotas=_quotas(resources.settings), asked_by=asked_by
    )
    ids = [record.id for record in accepted.edits]
    if not accepted.replayed:
        metrics.EDITS_ACCEPTED.inc(len(ids))
        await resources.doorbell.ring(ids)
        failpoints.hit("api.rung")
    response.headers["Location"] = f"/edits/{ids[0]}" if len(ids) == 1 else f"/edits?submission={accepted.id}"
    links = [EditLink(id=record.id, state=record.state, url=f"/edits/{record.id}") for record in accepted.edits]
    return SubmissionOut(submission_id=accepted.id, ids=ids, edits=links, replayed=accepted.replayed)


def _quotas(settings: Settings) -> Quotas:
    return Quotas(settings.max_queued_edits, settings.max_queued_edits_per_key, settings.replaces == "own")


def _new_edit(body: EditIn) -> NewEdit:
    return NewEdit(body.prompt, body.target, tuple(body.rephrases), tuple(body.unrelated), body.subject, tuple(body.aliases))


@router.get("/edits/{edit_id}", responses=problems(404, 503), summary="One edit")
async def get_edit(edit_id: EditId, here: Here, own: OwnKey) -> EditOut:
    """Its state, its revision, and what the model says before and after."""
    return EditOut.of(await read.get_edit(here.resources.database, edit_id, own))


@router.get("/edits/{edit_id}/history", responses=problems(404, 422, 503), summary="What became of one edit")
async def get_history(edit_id: EditId, here: Here, own: OwnKey) -> HistoryOut:
    """What each revision did to it."""
    await read.get_edit(here.resources.database, edit_id, own)
    found = await read.history(here.resources.database, edit_id)
    return HistoryOut(
        events=[
            EventOut(
                revision=number,
                event=each.event,
                leans_on=list(each.leans_on or ()),
                taught_at=each.taught_at,
                record_object=each.record_object,
            )
            for number, each in found.items()
        ]
    )


@router.get("/edits", responses=problems(422, 503), summary="Many edits")
async def list_edits(
    here: Here,
    own: OwnKey,
    state: EditState | None = None,
    revision: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    submission: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    after: Annotated[int, Query(ge=0, le=2**62, description="Edits with a greater id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> EditsOut:
    """Oldest first, page by page; `next` is the address of the page after this one."""
    found = await read.list_edits(
        here.resources.database,
        after=after,
        limit=limit + 1,
        state=state,
        revision=revision,
        submission_id=submission,
        key_id=own,
    )
    page, following = found[:limit], None
    if len(found) > limit:
        filters = {"state": state.value if state else None, "revision": revision, "submission": submission}
        query = {name: value for name, value in filters.items() if value is not None}
        following = "/edits?" + urlencode({**query, "after": page[-1].id, "limit": limit})
    return EditsOut(edits=[EditOut.of(record) for record in page], next=following)
