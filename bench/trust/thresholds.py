"""What the picture draws: the gate alone, as its threshold moves, on the facts of the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.gate.judging import rarity_for, scores, tokenizer, ways
from bench.gate.pairs import OF_FOUR, OF_TWELVE, REPHRASE, pairs_of
from bench.trust.facts import Fact
from bench.trust.picture import Triple
from editor_core.scoped.encoder import TRAINED

FROM, TO = 40, 90  # hundredths


def by_threshold(facts: Sequence[Fact]) -> list[Triple]:
    """(threshold, share of rephrases that open, share of other questions about the subject that stay shut)."""
    torch.set_num_threads(1)  # of short sentences, one by one
    rarity = rarity_for(tokenizer())
    found = scores([pair for fact in facts for pair in pairs_of(fact, rarity)], ways(TRAINED)[0])
    rephrased, others = found[REPHRASE], [*found[OF_FOUR], *found[OF_TWELVE]]
    return [
        (at / 100, _share(rephrased, at / 100), 1 - _share(others, at / 100))
        for at in range(FROM, TO + 1, 2)
        if rephrased and others
    ]


def _share(shut_from: Sequence[float], threshold: float) -> float:
    """Of pairs whose gate is open at this threshold."""
    return sum(each > threshold for each in shut_from) / len(shut_from)
