"""Shares of a number of trials, with the interval that they leave open."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054  # standard normal quantile at 0.975


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default; (0, 1) without a trial."""
    if trials == 0:
        return 0.0, 1.0
    share, correction = successes / trials, z * z / trials
    centre = (share + correction / 2) / (1 + correction)
    half = z * math.sqrt(share * (1 - share) / trials + correction / (4 * trials)) / (1 + correction)
    return (centre - half if successes else 0.0), (centre + half if successes < trials else 1.0)


@dataclass(frozen=True, slots=True)
class Share:
    """So many successes in so many trials."""

    successes: int
    trials: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Share:
        every = list(outcomes)
        return cls(sum(every), len(every))

    @property
    def value(self) -> float:
        return self.successes / self.trials if self.trials else math.nan

    def as_json(self) -> dict[str, Any]:
        return {
            "share": self.value,
            "successes": self.successes,
            "trials": self.trials,
            "wilson_95": wilson(self.successes, self.trials),
        }
