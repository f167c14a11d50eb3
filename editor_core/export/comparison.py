"""Two models asked the same questions: do they say the same, greedily, and how far apart are their logits?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from editor_core.answers import ANSWER_TOKENS, greedy_tokens
from editor_core.prompts import Prompts
from editor_core.texts import Format

TOLERANCE = 1e-4  # of the largest logit: 214 slots of SmolLM2 folded in float32 are off by 1e-6
AT_ONCE = 32  # questions between two reports of progress
Question = tuple[str, Format]


@dataclass(frozen=True, slots=True)
class Said:
    """What a model says to P questions.

    tokens   greedy tokens of each answer
    logits   P × V float32 on the cpu, of the token after each question
    """

    tokens: list[list[int]]
    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of the answers to `questions` questions, `same` are the same token by token.

    logit_difference  the largest of any token of the vocabulary after any question; infinite for NaN
    largest_logit     of the model that was compared with
    example           one answer that differs, in words; "" for none
    """

    questions: int
    same: int
    logit_difference: float
    largest_logit: float
    example: str

    @property
    def all_the_same(self) -> bool:
        return self.same == self.questions

    @property
    def equal(self) -> bool:
        """The same answers, and logits apart by no more than float32's rounding."""
        return self.all_the_same and self.logit_difference <= TOLERANCE * self.largest_logit

    def __str__(self) -> str:
        return (
            f"{self.same} of {self.questions} greedy answers ({ANSWER_TOKENS} tokens) are the same; "
            f"the largest difference of a logit is {self.logit_difference:.2g} (the largest logit is {self.largest_logit:.3g})"
        )


def say(
    model: Any, tokenizer: Any, questions: Sequence[Question], progress: Callable[[float], None] = lambda share: None
) -> Said:
    """Ask all questions; progress is told the share that is answered."""
    tokens: list[list[int]] = []
    logits: list[torch.Tensor] = []
    for start in range(0, len(questions), AT_ONCE):
        part = questions[start : start + AT_ONCE]
        logits.append(_next_logits(model, tokenizer, part))
        tokens += greedy_tokens(model, tokenizer, part)
        progress(len(tokens) / len(questions))
    return Said(tokens, torch.cat(logits))


def compare(wanted: Said, found: Said, questions: Sequence[Question], tokenizer: Any) -> Comparison:
    """`found` against `wanted`, which were asked `questions`."""
    differing = [index for index, (one, two) in enumerate(zip(wanted.tokens, found.tokens, strict=True)) if one != two]
    difference = (found.logits - wanted.logits).abs().max().item()
    example = ""
    if differing:
        first = differing[0]
        prompt, format = questions[first]
        one, two = (_text(tokenizer, said.tokens[first]) for said in (wanted, found))
        example = f"{prompt!r} in {format} format: {two!r} in place of {one!r}"
    return Comparison(
        questions=len(questions),
        same=len(questions) - len(differing),
        logit_difference=difference if difference == difference else float("inf"),
        largest_logit=wanted.logits.abs().max().item(),
        example=example,
    )


def spread(items: Sequence[Any], most: int) -> Iterable[Any]:
    """At most `most` of the items, evenly over all of them, with the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


@torch.inference_mode()
def _next_logits(model: Any, tokenizer: Any, questions: Sequence[Question]) -> torch.Tensor:
    rows: dict[int, torch.Tensor] = {}
    for passage in Prompts.of(tokenizer, questions).read(model):
        logits = model(**passage.inputs(), logits_to_keep=1).logits[:, -1].float().cpu()
        rows |= dict(zip(passage.chosen, logits, strict=True))
    return torch.stack([rows[index] for index in range(len(questions))])


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()[:120]
