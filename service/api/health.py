"""GET /livez, /readyz and /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service import metrics
from service.api.context import Context, Here
from service.api.schemas.state import CheckOut, ReadyOut
from service.errors import StorageUnavailable
from service.ledger import read

router = APIRouter(tags=["health"])


@router.get("/livez", summary="The process runs", response_class=PlainTextResponse)
async def livez() -> str:
    """Says nothing of the rest; see /readyz."""
    return "ok"


router.add_api_route("/livez", livez, methods=["HEAD"], include_in_schema=False)


@router.get("/readyz", summary="Everything needed is there", response_model=ReadyOut, responses={503: {"model": ReadyOut}})
async def readyz(here: Here) -> Response:
    """200 when edits and questions can be taken, 503 otherwise; the body says what is missing."""
    checks = {"postgres": await _postgres(here)}
    checks["redis"], checks["worker"] = await _workers(here)
    checks["answers"] = _answers(here)
    ready = all(check.ok for check in checks.values())
    body = ReadyOut(status="ready" if ready else "not_ready", checks=checks)
    return JSONResponse(body.model_dump(), 200 if ready else 503, {} if ready else {"Retry-After": "5"})


router.add_api_route("/readyz", readyz, methods=["HEAD"], include_in_schema=False)


async def _postgres(here: Context) -> CheckOut:
    try:
        await read.ping(here.resources.database)
    except StorageUnavailable as error:
        return CheckOut(ok=False, detail=error.detail)
    return CheckOut(ok=True, detail="answers")


async def _workers(here: Context) -> tuple[CheckOut, CheckOut]:
    try:
        workers = await here.resources.presence.workers()
    except StorageUnavailable as error:
        return CheckOut(ok=False, detail=error.detail), CheckOut(ok=False, detail="unknown while Redis is away")
    ready = [worker for worker in workers if worker.state == "ready"]
    shown = (ready or workers)[:1]
    detail = f"{shown[0].model}: {shown[0].detail}" if shown else "no worker has reported in the last seconds"
    return CheckOut(ok=True, detail="answers"), CheckOut(ok=bool(ready), detail=detail)


def _answers(here: Context) -> CheckOut:
    ok = here.questions.is_listening
    return CheckOut(ok=ok, detail="are heard" if ok else "this process does not hear what workers answer")


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def prometheus(here: Here) -> Response:
    """Of this api process, and the ledger's queue; workers have their own port."""
    try:
        queue = await read.queue(here.resources.database)
        metrics.EDIT_QUEUE_DEPTH.set(queue.depth)
        metrics.EDIT_OLDEST_PENDING.set(queue.oldest_pending_age_s)
        metrics.HEAD_REVISION.set(queue.head_number)
    except StorageUnavailable:
        pass  # the process's own figures are worth having without the ledger
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
