"""GET and POST /generate: ask the model as it is now."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict

from service.api.context import Context, Here, KeyId, problems, refuse_bad_utf8
from service.api.questions.answering import event, event_stream, while_here
from service.api.questions.generation import Question
from service.api.schemas.generation import GenerateIn, GenerateOut, Usage
from service.domain.messages import GenerateReply

router = APIRouter(tags=["generate"])
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with stream=true as events, of which the last has finish_reason and usage.",
        "content": {"text/event-stream": {}},
    },
    **problems(400, 409, 413, 422, 429, 500, 503, 504),
}


class GenerateQuery(GenerateIn):
    """The same question as query parameters, which are always text."""

    model_config = ConfigDict(strict=False)


@router.get(
    "/generate",
    responses=RESPONSES,
    response_model=GenerateOut,
    summary="Ask, by address",
    dependencies=[Depends(refuse_bad_utf8)],
)
async def get_generate(
    question: Annotated[GenerateQuery, Query()], here: Here, request: Request, key_id: KeyId
) -> GenerateOut | Response:
    """The simple door: `/generate?prompt=…`."""
    return await _answered(question, here, request, key_id)


@router.post("/generate", responses=RESPONSES, response_model=GenerateOut, summary="Ask")
async def post_generate(question: GenerateIn, here: Here, request: Request, key_id: KeyId) -> GenerateOut | Response:
    """The answer says which revision of the model gave it."""
    return await _answered(question, here, request, key_id)


async def _answered(body: GenerateIn, here: Context, request: Request, key_id: str) -> GenerateOut | Response:
    await here.questions.admit(min_revision=body.min_revision, key_id=key_id)
    question = Question(**body.model_dump(exclude={"stream"}), key_id=key_id)
    if body.stream:
        return await event_stream(request, _events(question, here), here.questions.longest_s)
    return _whole(await while_here(request, here.questions.ask(question)))


async def _events(question: Question, here: Context) -> AsyncGenerator[str]:
    async with aclosing(here.questions.stream(question)) as replies:
        async for reply in replies:
            if reply.last:
                yield event(_whole(reply).model_dump())
            else:
                yield event({"text": reply.text, "revision": reply.revision})


def _whole(reply: GenerateReply) -> GenerateOut:
    return GenerateOut(
        text=reply.text,
        revision=reply.revision,
        revisions=reply.revisions or [reply.revision],
        finish_reason="stop" if reply.finish_reason == "stop" else "length",
        usage=Usage.of(reply),
    )
