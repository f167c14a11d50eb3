"""POST /v1/completions and /v1/chat/completions, GET /v1/models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.api.access import key_of
from service.api.answering import DONE, all_answers, event, event_stream, together, while_here
from service.api.context import Context, Here
from service.api.generation import Question
from service.api.openai.answers import ChatCompletionOut, CompletionOut, ModelOut, ModelsOut
from service.api.openai.schemas import ChatIn, CompletionIn
from service.api.openai.shapes import ChatShape, CompletionShape, Shape
from service.domain.messages import GenerateReply
from service.errors import NotFound

router = APIRouter(prefix="/v1", tags=["openai"])
ANY_MODEL = "errata"  # whatever is served


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorOut(BaseModel):
    """Errors as OpenAI's clients read them."""

    error: ErrorBody


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorOut} for status in statuses}


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with stream=true as events of its chunks, the last one being [DONE].",
        "content": {"text/event-stream": {}},
    },
    **_errors(400, 404, 409, 413, 429, 500, 503, 504),
}


@router.post("/completions", responses=RESPONSES, response_model=CompletionOut, summary="Continue a text")
async def completions(body: CompletionIn, here: Here, request: Request) -> Response:
    """As OpenAI's, with `revisions` beside `system_fingerprint`."""
    model, questions = await _model(here, body.model), body.questions()
    return await _answered(request, here, body, questions, CompletionShape(model, questions, body.choices_each))


@router.post("/chat/completions", responses=RESPONSES, response_model=ChatCompletionOut, summary="Answer a conversation")
async def chat_completions(body: ChatIn, here: Here, request: Request) -> Response:
    """As OpenAI's, with `revisions` beside `system_fingerprint`."""
    model, questions = await _model(here, body.model), body.questions()
    return await _answered(request, here, body, questions, ChatShape(model, questions, body.choices_each))


@router.get("/models", responses=_errors(503), response_model=ModelsOut, summary="What is served")
async def models(here: Here) -> Response:
    """One entry for each model that a worker has ready."""
    return JSONResponse({"object": "list", "data": [_entry(name) for name in await here.questions.models()]})


router.add_api_route("/models/", models, include_in_schema=False)


@router.get("/models/{model:path}", responses=_errors(404, 503), response_model=ModelOut, summary="One model")
async def one_model(model: str, here: Here) -> Response:
    """404 for one that is not served."""
    return JSONResponse(_entry(await _model(here, model)))


def _entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "errata"}


async def _model(here: Context, name: str) -> str:
    served = await here.questions.models()
    if name in served:
        return name
    if served and name in (ANY_MODEL, here.resources.settings.model):
        return served[0]
    if not served:
        await here.questions.admit()  # says that nothing is ready
    raise NotFound(f"the model {name[:100]!r} is not served here; GET /v1/models lists what is", code="model_not_found")


async def _answered(
    request: Request, here: Context, body: CompletionIn | ChatIn, questions: Sequence[Question], shape: Shape
) -> Response:
    key_id = key_of(request.scope) or ""
    await here.questions.admit(len(questions), body.min_revision, key_id)
    questions = [replace(each, key_id=key_id) for each in questions]
    if body.stream:
        events = _events(here, questions, shape, body.wants_usage)
        return await event_stream(request, events, here.questions.longest_s)
    return JSONResponse(shape.whole(await while_here(request, all_answers(here.questions, questions))))


async def _events(here: Context, questions: Sequence[Question], shape: Shape, wants_usage: bool) -> AsyncGenerator[str]:
    ended: dict[int, GenerateReply] = {}
    async with aclosing(together(here.questions, questions, stream=True)) as replies:
        async for index, reply in replies:
            chunk = shape.chunk(index, reply)
            yield event({**chunk, "usage": None} if wants_usage else chunk)
            if reply.last:
                ended[index] = reply
    if wants_usage:
        yield event(shape.final_usage([ended[index] for index in range(len(questions))]))
    yield DONE
