"""What a threshold trades, as markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.gate.judging import Scores
from bench.gate.pairs import OF_FOUR, OF_TWELVE, SORTS

OTHERS_OPEN = (0.05, 0.02, 0.01)  # shares at which ways are compared


def share_open(scores: Sequence[float], threshold: float) -> float:
    """Of the gates, by the least thresholds that keep them shut; not a number without a gate."""
    return sum(each > threshold for each in scores) / len(scores) if scores else math.nan


def threshold_at(scores: Sequence[float], share: float) -> float:
    """The least at which no more than this share of the gates opens; inf where none does that."""
    return sorted(scores, reverse=True)[int(len(scores) * share)]


def by_threshold(found: Mapping[str, Scores], thresholds: Sequence[float]) -> str:
    """A row for each way and threshold: the share of each sort that opens the gate."""
    rows = []
    for name, scores in found.items():
        rows += [(name, f"{each:.2f}", *_shares(scores, each)) for each in thresholds]
    return _table(("vectors", "threshold", *_columns(found)), rows)


def by_others(found: Mapping[str, Scores]) -> str:
    """A row for each way and share of the questions about the same subject that open it."""
    rows = []
    for name, scores in found.items():
        others = [*scores[OF_FOUR], *scores[OF_TWELVE]]
        for share in OTHERS_OPEN if others else ():
            threshold = threshold_at(others, share)
            if math.isfinite(threshold):
                shares = _shares(scores, threshold)
                rows.append((name, f"{share:.0%}", f"{threshold:.2f}", *shares))
    return _table(("vectors", "of the 16 at most", "threshold", *_columns(found)), rows)


def _columns(found: Mapping[str, Scores]) -> list[str]:
    """With how many there are of each sort."""
    counts = next(iter(found.values()))
    return [f"{sort} ({len(counts[sort])})" for sort in SORTS]


def _shares(scores: Scores, threshold: float) -> list[str]:
    return [f"{share_open(scores[sort], threshold):.3f}" for sort in SORTS]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
