"""GET and POST /generate: ask the model as it is now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import ConfigDict

from service.api.context import Context, Here, problems, refuse_bad_utf8
from service.api.schemas import GenerateIn, GenerateOut, Usage

router = APIRouter(tags=["generate"])
ERRORS = problems(400, 409, 422, 429, 503, 504)


class GenerateQuery(GenerateIn):
    """The same question as query parameters, which are always text."""

    model_config = ConfigDict(strict=False)


@router.get("/generate", responses=ERRORS, summary="Ask, by address", dependencies=[Depends(refuse_bad_utf8)])
async def get_generate(question: Annotated[GenerateQuery, Query()], here: Here) -> GenerateOut:
    """The simple door: `/generate?prompt=…`."""
    return await _answered(question, here)


@router.post("/generate", responses=ERRORS, summary="Ask")
async def post_generate(question: GenerateIn, here: Here) -> GenerateOut:
    """The answer says which revision of the model gave it."""
    return await _answered(question, here)


async def _answered(question: GenerateIn, here: Context) -> GenerateOut:
    reply = await here.questions.ask(question)
    total = reply.prompt_tokens + reply.completion_tokens
    return GenerateOut(
        text=reply.text,
        revision=reply.revision,
        finish_reason="stop" if reply.finish_reason == "stop" else "length",
        usage=Usage(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, total_tokens=total),
    )
