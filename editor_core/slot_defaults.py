"""Where slots go in a model that nobody has calibrated: places by depth, measured on SmolLM2-135M; and their editor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from editor_core.config import EditorConfig
from editor_core.editor import Editor
from editor_core.profile import Profile
from editor_core.slot_policy import SUBJECT_STEP
from editor_core.slots import GATED_PARTS, attach_slots

SUBJECT_DEPTHS = (0.24, 0.28, 0.31, 0.345, 0.41, 0.48)  # of the number of blocks
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


def default_profile(blocks: Sequence[str]) -> Profile:
    """By depth. Raises ConfigError when there are too few blocks to keep subjects and answers apart."""
    return Profile(blocks_at(blocks, SUBJECT_DEPTHS), blocks_at(blocks, ANSWER_DEPTHS), SUBJECT_STEP)


def bank_editor(model: nn.Module, blocks: Sequence[str], max_update_norm: float | None = None) -> Editor:
    """An editor of these blocks' banks, which are attached where they are not yet there.

    Raises UnsupportedModuleError for a block that is not gated.
    """
    # slots have steps of their own: neither lr nor the number of tokens scales them
    return Editor(model, EditorConfig(attach_slots(model, blocks), lr=1.0, loss_tokens=1.0, max_update_norm=max_update_norm))
