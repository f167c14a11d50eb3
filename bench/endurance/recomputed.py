"""Would the weights of that revision say so? The model is rebuilt from the ledger and asked by itself, one token at a time.

A service sums in another order in other company, so where two tokens are as good as equal either is right: both are tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.endurance.questions import Question
from editor_core.draft import Draft
from editor_core.greedy import end_tokens
from editor_core.texts import Format, rendered, token_ids
from service.bootstrap import build
from service.ledger import read
from service.settings import Settings
from service.worker.model_thread import ModelThread
from service.worker.resident import ResidentModel
from service.worker.restore import Restorer

TIE = 2e-3  # between two logits in float32
CHANCE_TIE = 2e-5  # between a draw and the border of a token's share of the probability
TRIED = 8
UNFINISHED = "�"  # what a tokenizer says for bytes that are not a character yet


@dataclass(frozen=True, slots=True)
class Claim:
    """A text that a question was answered with; without a finish_reason, how the answer began."""

    question: Question
    text: str
    finish_reason: str = ""


Claims = Mapping[int, Sequence[Claim]]  # by revision
Doubts = dict[tuple[int, Claim], str]


def doubts(settings: Settings, claims: Claims, judged: Callable[[], None]) -> Doubts:
    """What the model says instead, or nothing, for each. Raises ErrataError when a revision cannot be rebuilt any more."""
    return asyncio.run(_doubts(settings, claims, judged))


async def _doubts(settings: Settings, claims: Claims, judged: Callable[[], None]) -> Doubts:
    resources, thread = build(settings.model_copy(update={"redis_url": "unix:///nowhere"}), "endurance"), ModelThread()
    found: Doubts = {}
    try:
        resident = await thread.run(ResidentModel.load, settings, lambda message: None)
        restorer = Restorer(resident, thread, resources.database, resources.objects(), lambda message: None, mends=False)
        for number, texts in claims.items():
            draft = await restorer.draft_at(await read.get_revision(resources.database, number))
            for claim in texts:
                found[number, claim] = await thread.run(_doubt_as, draft, resident, claim)
                judged()
    finally:
        thread.close()
        await resources.close()
    return found


def _doubt_as(draft: Draft, resident: ResidentModel, claim: Claim) -> str:
    with draft:
        return doubt(resident.editor.model, resident.tokenizer, claim)


@torch.inference_mode()
def doubt(model: Any, tokenizer: Any, claim: Claim) -> str:
    """Empty where the model could have said the text, ending as it did."""
    question, said, text = claim.question, list[int](), ""
    format: Format = "chat" if question.chat else "plain"
    ids, cache = token_ids(tokenizer, rendered(tokenizer, question.prompt, format), format), None
    draws = None if question.seed is None else torch.Generator().manual_seed(question.seed)
    ends = end_tokens(model)
    for _ in range(question.max_tokens):
        output = model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        likely = _likely(output.logits[0, -1].float(), draws)
        if claim.finish_reason == "stop" and text == claim.text and ends & set(likely):
            return ""
        continued = {token: _decoded(tokenizer, [*said, token]) for token in likely if token not in ends}
        token = next((each for each, words in continued.items() if _fits(words, claim)), None)
        if token is None:
            instead = [words[len(text) :] for words in continued.values()]
            return f"said {claim.text!r}, but after {text!r} comes {instead or 'the end'}"
        said, ids, text = [*said, token], [token], continued[token]
        if stopped := [text.find(stop) for stop in question.stop if stop in text]:
            return _ended(claim, text[: min(stopped)], "stop")
        if not claim.finish_reason and text.startswith(claim.text):
            return ""
    return _ended(claim, text, "length")


def _likely(logits: torch.Tensor, draws: torch.Generator | None) -> list[int]:
    """The token, and those that rounding may have put in its place; the first is the most probable choice."""
    if draws is None:
        best, tokens = logits.topk(TRIED)
        return [int(token) for value, token in zip(best, tokens, strict=True) if value >= best[0] - TIE]
    until = logits.softmax(-1).cumsum(0, dtype=torch.float64)
    chance = torch.rand(1, generator=draws).double() * until[-1]
    first, last = (int(torch.searchsorted(until, chance + way)) for way in (-CHANCE_TIE, CHANCE_TIE))
    middle = int(torch.searchsorted(until, chance, right=True))
    return sorted(range(first, min(last, len(until) - 1) + 1), key=lambda token: abs(token - middle))


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _fits(words: str, claim: Claim) -> bool:
    """Whether the claim may begin so; a text that stopped, or of which the beginning alone is known, may be shorter."""
    known = words.rstrip(UNFINISHED)
    shorter = not claim.finish_reason or (claim.finish_reason == "stop" and bool(claim.question.stop))
    return claim.text.startswith(known) or (shorter and known.startswith(claim.text))


def _ended(claim: Claim, text: str, reason: str) -> str:
    if not claim.finish_reason and text.startswith(claim.text):
        return ""
    if (text, reason) == (claim.text, claim.finish_reason):
        return ""
    return f"said {claim.text!r} and ended by {claim.finish_reason!r}, but it is {text!r} and {reason!r}"
