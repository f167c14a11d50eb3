"""The papers' scores: share of a target's tokens that are the model's most likely ones when it is shown those before them.

ES, GS and LS of the literature: of the prompt, of the rephrase, and of the unrelated question with the data set's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from bench.quality.facts import Fact
from bench.quality.likelihood import Likelihood, likelihoods
from bench.quality.progress import Advance, in_parts
from editor_core.texts import Edit, encode

AT_ONCE = 64
SCORES: dict[str, Callable[[Fact], Edit]] = {
    "ES": lambda fact: Edit(fact.prompt, fact.target),
    "GS": lambda fact: Edit(fact.rephrase, fact.target),
    "LS": lambda fact: Edit(fact.unrelated_prompt, fact.unrelated_target),
}


def teacher_forced(model: nn.Module, tokenizer: Any, facts: Sequence[Fact], advance: Advance) -> dict[str, list[Likelihood]]:
    """By score and fact, in plain format."""
    examples = [encode(tokenizer, make(fact), "plain", 0) for make in SCORES.values() for fact in facts]
    found = [each for part in in_parts(examples, AT_ONCE, advance) for each in likelihoods(model, tokenizer, part)]
    return {score: found[number * len(facts) :][: len(facts)] for number, score in enumerate(SCORES)}


def accuracy(of_facts: Sequence[Likelihood]) -> float:
    """Mean over facts of the share of correct tokens."""
    return sum(float(each.correct.float().mean()) for each in of_facts) / len(of_facts)


def agreement(before: Sequence[Likelihood], after: Sequence[Likelihood]) -> float:
    """Mean over facts of the share of tokens in whose place both models prefer the same."""
    pairs = zip(before, after, strict=True)
    return sum(float((one.preferred == other.preferred).float().mean()) for one, other in pairs) / len(before)
