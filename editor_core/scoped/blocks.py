"""Where updates go in a model: the outputs of its feed-forward blocks, late enough to decide the token and early enough to be
read on; and what tells one model from another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

OUTPUTS = ("down_proj", "fc_out", "c_proj", "fc2", "dense_4h_to_h", "w2")  # names of a feed-forward block's last layer
DEPTHS = (0.81, 0.85)  # of the number of blocks; blocks 24 and 25 of SmolLM2-135M's 30
_PLACE = re.compile(r"(.*?\.(\d+)\.)(.*)")


def feed_forward_outputs(model: nn.Module) -> list[str]:
    """Names of the last layer of every block's feed-forward part, in the model's order; [] where none is known by its name."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        place = _PLACE.fullmatch(name)
        is_layer = isinstance(getattr(module, "weight", None), torch.Tensor)
        if place and is_layer and name.rsplit(".", 1)[-1] in OUTPUTS and "attn" not in place[3]:
            found[place[1]] = name
    return list(found.values())


def default_blocks(outputs: Sequence[str]) -> tuple[str, ...]:
    """Two neighbouring blocks by depth; one of a model with a single block."""
    places = sorted({min(int(depth * len(outputs)), len(outputs) - 1) for depth in DEPTHS})
    if len(places) == 1 and len(outputs) > 1:
        places = [max(places[0] - 1, 0), max(places[0] - 1, 0) + 1]
    return tuple(outputs[place] for place in places)


def identity(model: Any) -> str:
    """16 hexadecimal digits: of the outputs' names and the last one's weights, which fine-tuning seldom leaves alone."""
    names = feed_forward_outputs(model)
    last = model.get_submodule(names[-1]).weight.detach().float().cpu().contiguous() if names else torch.empty(0)
    return hashlib.sha256("\n".join(names).encode() + last.numpy().tobytes()).hexdigest()[:16]
