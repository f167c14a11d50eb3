"""POST /v1/completions and /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.api.context import Context, Here
from service.api.middleware.access import key_of
from service.api.openai.answers import ChatCompletionOut, CompletionOut
from service.api.openai.errors import errors
from service.api.openai.models import served_as
from service.api.openai.schemas import ChatIn, CompletionIn
from service.api.openai.shapes import ChatShape, CompletionShape, Shape
from service.api.questions.answering import DONE, all_answers, event, event_stream, together, while_here
from service.api.questions.generation import Question
from service.domain.messages import GenerateReply
from service.errors import NotFound

router = APIRouter(prefix="/v1", tags=["openai"])
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with stream=true as events of its chunks, the last one being [DONE].",
        "content": {"text/event-stream": {}},
    },
    **errors(400, 404, 409, 413, 429, 500, 503, 504),
}


@router.post("/completions", responses=RESPONSES, response_model=CompletionOut, summary="Continue a text")
async def completions(body: CompletionIn, here: Here, request: Request) -> Response:
    """As OpenAI's, with `revisions` beside `system_fingerprint`."""
    model, questions = await served_as(here, body.model), body.questions()
    return await _answered(request, here, body, questions, CompletionShape(model, questions, body.choices_each))


@router.post("/chat/completions", responses=RESPONSES, response_model=ChatCompletionOut, summary="Answer a conversation")
async def chat_completions(body: ChatIn, here: Here, request: Request) -> Response:
    """As OpenAI's, with `revisions` beside `system_fingerprint`."""
    model, questions = await served_as(here, body.model), body.questions()
    return await _answered(request, here, body, questions, ChatShape(model, questions, body.choices_each))


@router.api_route("/responses", methods=["POST"], include_in_schema=False)
async def responses() -> None:
    raise NotFound("there is no Responses API here; ask POST /v1/chat/completions", code="not_found")


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
