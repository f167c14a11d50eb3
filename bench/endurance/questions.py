"""What is asked, over and over: few questions, so that every revision hears each of them more than once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STOPS = ((), (), ("\n",), (".",), (" the", ","))
SHORTEST = 4  # tokens


@dataclass(frozen=True, slots=True)
class Question:
    """Greedy, or sampled at temperature 1 where there is a seed."""

    prompt: str
    chat: bool
    max_tokens: int
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def body(self) -> dict[str, Any]:
        """For POST /generate, streaming."""
        sampled = {} if self.seed is None else {"temperature": 1.0, "seed": self.seed}
        asked = {"prompt": self.prompt, "chat": self.chat, "max_tokens": self.max_tokens, "stream": True, **sampled}
        return {**asked, "stop": list(self.stop)} if self.stop else asked

    def __str__(self) -> str:
        form = "chat" if self.chat else "plain"
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.prompt!r} ({form}, {self.max_tokens} tokens, stop {list(self.stop)}{seed})"


def drawn(prompts: Sequence[str], count: int, longest: int, chance: random.Random) -> list[Question]:
    """So many different ones, a quarter of them with a seed."""
    found: dict[Question, None] = {}
    while len(found) < count:
        seed = chance.randrange(1000) if len(found) % 4 == 3 else None
        tokens = chance.randint(SHORTEST, longest)
        found[Question(chance.choice(prompts), chance.random() < 0.5, tokens, chance.choice(STOPS), seed)] = None
    return list(found)
