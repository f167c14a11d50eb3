"""What an edit has to reach to be called good, and the most it may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A bound in words, and whether a figure keeps it. NaN keeps none."""

    words: str
    met: Callable[[float], bool]


def at_least(bound: float) -> Target:
    return Target(f"≥ {bound:.2f}", lambda value: value >= bound)


def at_most(bound: float, digits: int = 2) -> Target:
    return Target(f"≤ {bound:.{digits}f}", lambda value: value <= bound)


SUCCESS = {"prompt": at_least(0.98), "rephrase": at_least(0.80)}  # in each format
UNCHANGED = at_least(0.90)
KL_NATS = at_most(0.05)
PERPLEXITY_RATIO = Target("1 ± 0.01", lambda value: abs(value - 1) <= 0.01)
PUBLISHED_STEPS = at_most(5, digits=0)
