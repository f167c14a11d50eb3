"""Asking for the facts freely: every kind of question, in every format, as a user would put it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bench.quality.facts import Fact
from bench.quality.intervals import Share
from bench.quality.progress import Advance, in_parts
from editor_core.answers import greedy_answers, holds
from editor_core.texts import Format

AT_ONCE = 96
KINDS = ("prompt", "rephrase", "portability")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said to one question about one fact (by number), and whether that says the target."""

    fact: int
    kind: str
    format: Format
    question: str
    target: str
    said: str

    @property
    def holds(self) -> bool:
        return holds(self.said, self.target, self.format)


def ask(model: nn.Module, tokenizer: Any, facts: Sequence[Fact], formats: Sequence[Format], advance: Advance) -> list[Answer]:
    """Every question about every fact in every format, always in the same order."""
    asked = [
        (number, kind, format, *fact.questions()[kind])
        for format in formats
        for kind in KINDS
        for number, fact in enumerate(facts)
    ]
    answers = []
    for part in in_parts(asked, AT_ONCE, advance):
        said = greedy_answers(model, tokenizer, [(question, format) for _, _, format, question, _ in part])
        answers += [Answer(*each, text) for each, text in zip(part, said, strict=True)]
    return answers


def success(answers: Iterable[Answer], kind: str, format: Format) -> Share:
    return Share.of(each.holds for each in answers if (each.kind, each.format) == (kind, format))
