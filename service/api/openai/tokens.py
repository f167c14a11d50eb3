"""POST /tokenize and /detokenize, in vLLM's wire format: how the model's own tokenizer reads a prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Discriminator, Field, Tag

from service.api.context import Context, Here, KeyId, problems
from service.api.openai.fields import Only, OpenAIIn, Text
from service.api.openai.models import ANY_MODEL, served_as
from service.api.openai.schemas import Tokens
from service.api.openai.turns import GOES_ON_OR_NOT, Turns
from service.api.questions.generation import Question
from service.api.schemas.texts import Out
from service.domain.messages import GenerateReply
from service.errors import ModelNotReady

router = APIRouter(tags=["openai"])
RESPONSES = problems(400, 404, 413, 422, 429, 500, 503, 504)


class _Asked(OpenAIIn):
    model: str | None = Field(None, max_length=500)
    return_token_strs: bool | None = Field(None, description="The tokens as the tokenizer writes them as well.")


class TokenizePromptIn(_Asked):
    """A text, as /v1/completions reads it."""

    prompt: Text
    add_special_tokens: bool | None = Field(None, description="Those that the tokenizer begins a text with; default: true.")

    def question(self) -> Question:
        return Question(prompt=self.prompt, special_tokens=self.add_special_tokens is not False, is_read_only=True)


class TokenizeChatIn(Turns, _Asked):
    """A conversation, as /v1/chat/completions reads it; the chat template brings its own special tokens."""

    model_config = ConfigDict(json_schema_extra={"allOf": [*GOES_ON_OR_NOT]})

    add_special_tokens: Annotated[Any, Only([False])] = None
    chat_template_kwargs: Annotated[Any, Only([{}])] = None
    tools: Annotated[Any, Only([[]])] = None

    def question(self) -> Question:
        return Question(messages=self.plain_turns(), chat=True, goes_on=self.goes_on, is_read_only=True)


def _kind(body: Any) -> str:
    return "<chat>" if isinstance(body, TokenizeChatIn) or (isinstance(body, dict) and "messages" in body) else "<prompt>"


TokenizeIn = Annotated[
    Annotated[TokenizePromptIn, Tag("<prompt>")] | Annotated[TokenizeChatIn, Tag("<chat>")], Discriminator(_kind)
]


class TokenizeOut(Out):
    count: int
    max_model_len: int | None = Field(description="Tokens of a question and its answer together.")
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeIn(OpenAIIn):
    model: str | None = Field(None, max_length=500)
    tokens: Tokens


class DetokenizeOut(Out):
    prompt: str


@router.post("/tokenize", responses=RESPONSES, response_model=TokenizeOut, summary="Tokens of a prompt or a conversation")
async def tokenize(body: TokenizeIn, here: Here, key_id: KeyId) -> TokenizeOut:
    """How many there are may be more than the model reads."""
    model = await served_as(here, ANY_MODEL if body.model is None else body.model)
    read = await _read(here, replace(body.question(), key_id=key_id))
    tokens = read.ids or []
    longest = (await here.questions.models())[model].context_tokens or None
    strings = read.pieces if body.return_token_strs else None
    return TokenizeOut(count=len(tokens), max_model_len=longest, tokens=tokens, token_strs=strings)


@router.post("/detokenize", responses=RESPONSES, response_model=DetokenizeOut, summary="Text of tokens")
async def detokenize(body: DetokenizeIn, here: Here, key_id: KeyId) -> DetokenizeOut:
    """With control tokens as the tokenizer writes them."""
    await served_as(here, ANY_MODEL if body.model is None else body.model)
    return DetokenizeOut(prompt=(await _read(here, Question(tokens=body.tokens, is_read_only=True, key_id=key_id))).text)


async def _read(here: Context, question: Question) -> GenerateReply:
    """The tokens are the worker's affair: this process has no tokenizer. Raises what asking a question does."""
    await here.questions.admit(key_id=question.key_id)
    reply = await here.questions.ask(question)
    if reply.ids is None:
        raise ModelNotReady("the worker is of an earlier version, which does not tell tokens", retry_after_s=30)
    return reply
