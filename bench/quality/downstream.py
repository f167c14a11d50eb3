"""Tasks that no edit is about, zero-shot: the answer chosen is the one that the model finds most likely after the question."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bench.quality.intervals import Share
from bench.quality.likelihood import likelihoods
from bench.quality.progress import Advance, in_parts
from editor_core.texts import Edit, encode

AT_ONCE = 64  # items between two moves of the progress bar
ITEM_TOKENS = 4096
LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True, slots=True)
class Item:
    """A question in plain format, what may follow it, and which of these is right."""

    prompt: str
    options: tuple[str, ...]
    label: int


def _yes_or_no(prompt: str, yes: bool) -> Item:
    return Item(prompt + "\nAnswer yes or no.\nAnswer:", ("yes", "no"), 0 if yes else 1)


def _cola(item: Mapping[str, Any]) -> Item:
    return _yes_or_no(f"Is this sentence grammatical?\n{item['sentence'].strip()}", item["label"] == 1)


def _mrpc(item: Mapping[str, Any]) -> Item:
    sentences = f"{item['sentence1'].strip()}\n{item['sentence2'].strip()}"
    return _yes_or_no(f"Do these two sentences mean the same?\n{sentences}", item["label"] == 1)


def _entailment(item: Mapping[str, Any]) -> Item:
    """RTE's label 0 and NLI's "entailment" say that the second sentence follows from the first."""
    prompt = f"{item['sentence1'].strip()}\nDoes it follow that: {item['sentence2'].strip()}"
    return _yes_or_no(prompt, item["label"] in (0, "entailment"))


def _sst2(item: Mapping[str, Any]) -> Item:
    prompt = f"Review: {item['sentence'].strip()}\nIs the review positive or negative?\nAnswer:"
    return Item(prompt, ("negative", "positive"), item["label"])


def _mmlu(item: Mapping[str, Any]) -> Item:
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, item["choices"], strict=True))
    return Item(f"{item['question'].strip()}\n{choices}\nAnswer:", LETTERS, item["answer"])


TASKS: dict[str, Callable[[Mapping[str, Any]], Item]] = {
    "cola": _cola,
    "mrpc": _mrpc,
    "rte": _entailment,
    "sst2": _sst2,
    "nli": _entailment,
    "mmlu": _mmlu,
}


def read_items(path: Path, at_most: int, seed: int) -> dict[str, list[Item]]:
    """By task: items drawn without repetition, the same ones for the same seed and number."""
    known: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return {
        task: [make(each) for each in random.Random(f"{seed} {task}").sample(known[task], min(at_most, len(known[task])))]
        for task, make in TASKS.items()
        if known.get(task)
    }


Scores = list[list[float]]  # by item and option: log-likelihood in nats


def option_scores(model: nn.Module, tokenizer: Any, items: Mapping[str, Sequence[Item]], advance: Advance) -> dict[str, Scores]:
    """By task: how likely the model finds every option of every item."""
    every = [item for each in items.values() for item in each]
    scores: Scores = []
    for part in in_parts(every, AT_ONCE, advance):
        options = [(item.prompt, option) for item in part for option in item.options]
        examples = [encode(tokenizer, Edit(*each), "plain", 0, ITEM_TOKENS) for each in options]
        found = iter(likelihoods(model, tokenizer, examples))
        scores += [[float(next(found).log_probs.sum()) for _ in item.options] for item in part]
    remaining = iter(scores)
    return {task: [next(remaining) for _ in each] for task, each in items.items()}


def chosen(scores: Scores) -> list[int]:
    """By item: the number of the most likely option, the first of equals."""
    return [max(range(len(each)), key=lambda index: each[index]) for each in scores]


def lean(scores: Scores) -> list[float]:
    """By option: the mean of its scores over the items, which is how much the model likes it whatever is asked."""
    return [sum(of_option) / len(scores) for of_option in zip(*scores, strict=True)]


def without(scores: Scores, lean: Sequence[float]) -> Scores:
    """The scores without a lean. A small model says "no" to everything, and then agrees with whoever does; this tells more."""
    return [[score - usual for score, usual in zip(each, lean, strict=True)] for each in scores]


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task: items on which both models choose the same, and those on which each is right."""

    agreement: Share
    unedited: Share
    edited: Share


def task_score(labels: Sequence[int], unedited: Sequence[int], edited: Sequence[int]) -> TaskScore:
    """labels: the right option, by item; unedited, edited: the option each model chose."""
    return TaskScore(
        agreement=Share.of(one == other for one, other in zip(unedited, edited, strict=True)),
        unedited=Share.of(one == label for one, label in zip(unedited, labels, strict=True)),
        edited=Share.of(one == label for one, label in zip(edited, labels, strict=True)),
    )
