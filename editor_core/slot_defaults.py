"""Which blocks of a model hold slots where nobody has calibrated it: places measured on SmolLM2-135M, by depth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from editor_core.slots import GATED_PARTS

SUBJECT_DEPTHS = (0.10, 0.17, 0.24, 0.31, 0.38, 0.45)  # of the number of blocks
ANSWER_DEPTHS = (0.79, 0.86)


def gated_blocks(model: nn.Module) -> list[str]:
    """Names of the gated feed-forward blocks, in the model's order: [] when slots have no place in this architecture."""
    return [
        name
        for name, module in model.named_modules()
        if all(isinstance(getattr(module, part, None), nn.Linear) for part in GATED_PARTS)
    ]


def blocks_at(blocks: Sequence[str], depths: Sequence[float]) -> tuple[str, ...]:
    """The blocks at these shares of the depth, each once, in order."""
    last = len(blocks) - 1
    return tuple(blocks[index] for index in sorted({round(depth * last) for depth in depths}))
