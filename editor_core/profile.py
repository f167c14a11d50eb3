"""What calibration found out about a model: the blocks that are to hold slots, and the size of the subject's steps."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from torch import nn

from editor_core.errors import ConfigError
from editor_core.slots import block_digest


@dataclass(frozen=True, slots=True)
class Profile:
    """Where slots go in one model.

    subject_blocks   feed-forward blocks (module names) that hold slots at the subject's token
    answer_blocks    blocks that hold slots at the positions which say the answer
    subject_step     norm of a step of a subject's value, as a share of the block's median output norm

    Raises ConfigError for names that are none, a block in both places, or a step that is not a number above 0.
    """

    subject_blocks: tuple[str, ...]
    answer_blocks: tuple[str, ...]
    subject_step: float

    def __post_init__(self) -> None:
        for place in ("subject_blocks", "answer_blocks"):
            names = getattr(self, place)
            if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) and each for each in names):
                raise ConfigError(f"{place} of a profile is a list of at least one module name, not {names!r}")
            object.__setattr__(self, place, tuple(names))
        if shared := set(self.subject_blocks) & set(self.answer_blocks):
            raise ConfigError(f"a block cannot hold both subject slots and answer slots: {', '.join(sorted(shared))}")
        step = self.subject_step
        if isinstance(step, bool) or not isinstance(step, int | float) or not math.isfinite(step) or step <= 0:
            raise ConfigError(f"subject_step of a profile must be a finite number above 0, not {step!r}")

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.subject_blocks + self.answer_blocks

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """Raises ConfigError when this is not a profile."""
        try:
            known = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"a profile is JSON; this is not: {error}") from None
        wanted = [each.name for each in fields(cls)]
        if not isinstance(known, dict) or set(known) != set(wanted):
            raise ConfigError(f"a profile is a JSON object with {', '.join(wanted)}, and nothing else")
        return cls(**known)


def identity(model: nn.Module, blocks: Sequence[str]) -> str:
    """16 hexadecimal digits that tell models apart: from all blocks' names and the weights of the last of `blocks`."""
    last = block_digest(model.get_submodule(blocks[-1]))  # fine-tuning seldom leaves it as it was
    return hashlib.sha256("\n".join([*blocks, last]).encode()).hexdigest()[:16]
