"""GET /v1/models, and which model a name means."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.api.context import Context, Here
from service.api.openai.answers import ModelOut, ModelsOut
from service.api.openai.errors import errors
from service.domain.messages import WorkerStatus
from service.errors import NotFound

router = APIRouter(prefix="/v1", tags=["openai"])
ANY_MODEL = "errata"  # whatever is served


@router.get("/models", responses=errors(503), response_model=ModelsOut, summary="What is served")
async def models(here: Here) -> Response:
    """One entry for each model that a worker has ready."""
    return JSONResponse({"object": "list", "data": [_entry(each) for each in (await here.questions.models()).values()]})


router.add_api_route("/models/", models, include_in_schema=False)


@router.get("/models/{model:path}", responses=errors(404, 503), response_model=ModelOut, summary="One model")
async def one_model(model: str, here: Here) -> Response:
    """404 for one that is not served."""
    return JSONResponse(_entry((await here.questions.models())[await served_as(here, model)]))


def _entry(worker: WorkerStatus) -> dict[str, Any]:
    length = worker.context_tokens or None
    return {
        "id": worker.model,
        "object": "model",
        "created": worker.ready_at,
        "owned_by": "errata",
        "max_model_len": length,
    }


async def served_as(here: Context, name: str) -> str:
    """The model that a caller's name means. Raises NotFound, ModelNotReady or StorageUnavailable."""
    served = await here.questions.models()
    if name in served:
        return name
    if served and name in (ANY_MODEL, here.resources.settings.model):
        return next(iter(served))
    if not served:
        await here.questions.admit()  # says that nothing is ready
    raise NotFound(f"the model {name[:100]!r} is not served here; GET /v1/models lists what is", code="model_not_found")
