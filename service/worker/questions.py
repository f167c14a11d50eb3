"""From a question to token ids, and from what is said to replies."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

from jinja2 import TemplateError

from editor_core.generation import News, Sampling, Scored, Sequence, token_starts
from editor_core.texts import conversation, rendered, token_ids
from service.domain.messages import GenerateReply, GenerateRequest, TokenReply


class Refused(Exception):
    """A question that cannot be asked, with a stable code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def sequence_for(model: Any, tokenizer: Any, request: GenerateRequest, max_prompt_tokens: int) -> Sequence:
    """Raises Refused."""
    ids = _ids(tokenizer, request)
    longest = min(_positions(model) - 1, max_prompt_tokens)
    if not ids:
        raise Refused("empty_prompt", "the prompt has no token")
    if len(ids) > longest:
        raise Refused("prompt_too_long", f"the prompt is {len(ids)} tokens long; at most {longest} are read here")
    _check_known(model, ids)
    room = _positions(model) - len(ids)
    sampling = Sampling(
        max_tokens=min(request.max_tokens, room),
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=tuple(request.stop or ()),
        logprobs=request.logprobs,
        echo=request.echo and request.logprobs is not None,
    )
    return Sequence(request.id, ids, sampling, tokenizer)


def context_tokens(model: Any, max_prompt_tokens: int) -> int:
    """How long a question and its answer may be, so that every question of this length is taken."""
    return min(_positions(model), max_prompt_tokens)


def read_only(model: Any, tokenizer: Any, request: GenerateRequest) -> GenerateReply:
    """The question's tokens, however many there are, and their text. Raises Refused."""
    ids = _ids(tokenizer, request)
    _check_known(model, ids)
    pieces = [str(each) for each in tokenizer.convert_ids_to_tokens(ids)]
    return GenerateReply(request.id, str(tokenizer.decode(ids)), ids=ids, pieces=pieces, finish_reason="stop")


def _positions(model: Any) -> int:
    """How many tokens the model can read."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))


def _check_known(model: Any, ids: Many[int]) -> None:
    vocabulary = model.get_input_embeddings().num_embeddings
    if not all(0 <= token < vocabulary for token in ids):
        raise Refused("unknown_token", f"token ids go from 0 to {vocabulary - 1}")


def _ids(tokenizer: Any, request: GenerateRequest) -> list[int]:
    if request.tokens is not None:
        return request.tokens
    if not request.chat:
        text = rendered(tokenizer, request.prompt, "plain")
        return token_ids(tokenizer, text, "plain" if request.special_tokens else "chat")
    if not tokenizer.chat_template:
        raise Refused("no_chat_template", "this model has no chat template; ask without chat")
    if request.messages is None:
        return token_ids(tokenizer, rendered(tokenizer, request.prompt, "chat"), "chat")
    try:
        text = conversation(tokenizer, request.messages, request.goes_on)
    except (TemplateError, ValueError) as error:
        raise Refused("messages_not_taken", f"the model's chat template does not take these messages: {error}") from error
    return token_ids(tokenizer, text, "chat")


class Telling:
    """What one asker is told: piece by piece, or at the end."""

    def __init__(self, request: GenerateRequest, sequence: Sequence, tokenizer: Any) -> None:
        self._request, self._sequence, self._tokenizer = request, sequence, tokenizer
        self._text, self._tokens = "", list[tuple[int, Scored]]()
        self._echo_told = not request.echo
        self._replies = 0

    def reply(self, news: News) -> GenerateReply | None:
        """None where there is nothing to tell yet."""
        self._text += news.text
        self._tokens += news.tokens
        if not news.finish_reason and not (self._request.stream and (self._text or self._tokens)):
            return None
        sequence = self._sequence
        reply = GenerateReply(
            id=sequence.id,
            text=self._text,
            revision=news.versions[-1],
            prompt_tokens=len(sequence.ids),
            completion_tokens=news.said,
            finish_reason=news.finish_reason or "",
            revisions=list(news.versions),
            tokens=None if self._request.logprobs is None else [self._token(each, at) for at, each in self._tokens],
            echoed=None if self._echo_told else self._echoed(),
            number=self._replies,
            prompt="" if self._echo_told or self._request.tokens is None else self._decoded(sequence.ids),
        )
        self._replies += 1
        self._text, self._tokens, self._echo_told = "", [], True
        return reply

    def _token(self, scored: Scored, start: int) -> TokenReply:
        top = [(self._decoded([token]), logprob) for token, logprob in scored.top]
        return TokenReply(self._decoded([scored.token]), start, scored.logprob, top)

    def _echoed(self) -> list[TokenReply]:
        """The prompt's tokens; nothing comes before the first, so it has no logprob."""
        sequence = self._sequence
        scores: Many[Scored] = sequence.scores or [Scored(token) for token in sequence.ids[1:]]
        starts = token_starts(self._tokenizer, sequence.ids, special=self._request.tokens is not None)
        return [self._token(each, at) for each, at in zip((Scored(sequence.ids[0]), *scores), starts, strict=True)]

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens))
