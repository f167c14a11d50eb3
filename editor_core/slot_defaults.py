"""Gated feed-forward blocks: for `editor_core.export` alone, and to go with what it does for slots."""

from __future__ import annotations

from torch import nn

from editor_core.slots import GATED_PARTS


def gated_blocks(model: nn.Module) -> list[str]:
    """Their names, in the model's order."""
    return [
        name
        for name, module in model.named_modules()
        if all(isinstance(getattr(module, part, None), nn.Linear) for part in GATED_PARTS)
    ]
