"""Settings known to work: the authors' own for four models (zsRE), and one measured for the demo model.

lr does not carry over between models, so a model without a preset needs its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from editor_core.config import EditorConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """What tells a model (its type, depth and width) and the settings for it."""

    model_type: str
    layers: int
    hidden_size: int
    config: EditorConfig


def _layers(pattern: str, numbers: Iterable[int]) -> list[str]:
    return [pattern.format(number) for number in numbers]


DOWN_PROJ = "model.layers.{}.mlp.down_proj"
FC_OUT = "transformer.h.{}.mlp.fc_out"

PRESETS: dict[str, Preset] = {
    "llama-3-8b-instruct": Preset("llama", 32, 4096, EditorConfig(_layers(DOWN_PROJ, [11, 12, 22, 23, 28, 29, 30]), lr=1e-6)),
    "mistral-7b-v0.3": Preset("mistral", 32, 4096, EditorConfig(_layers(DOWN_PROJ, range(28, 32)), lr=1e-6)),
    "gpt-j-6b": Preset("gptj", 28, 4096, EditorConfig(_layers(FC_OUT, [*range(7, 16), *range(18, 26)]), lr=2e-6)),
    "qwen2.5-7b-instruct": Preset(
        "qwen2", 28, 3584, EditorConfig(_layers(DOWN_PROJ, [*range(8, 15), *range(18, 26)]), lr=2e-6)
    ),
    "smollm2-135m": Preset("llama", 30, 576, EditorConfig(_layers(DOWN_PROJ, range(10, 28)), lr=3e-4)),
}


def preset_for(model_config: Any) -> tuple[str, EditorConfig] | None:
    """The name and settings of the preset made for this architecture and size, or None."""
    for name, preset in PRESETS.items():
        known = (preset.model_type, preset.layers, preset.hidden_size)
        if known == (
            getattr(model_config, "model_type", None),
            getattr(model_config, "num_hidden_layers", None),
            getattr(model_config, "hidden_size", None),
        ):
            return name, preset.config
    return None
