"""A folder that `AutoModelForCausalLM.from_pretrained` loads: the model as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from editor_core.errors import ExportError
from editor_core.loading import LoadedModel


def size_of(model: Any, dtype: torch.dtype) -> int:
    """Bytes of all weights, about."""
    return int(sum(each.numel() for each in model.parameters()) * dtype.itemsize)


@torch.no_grad()
def write_model(loaded: LoadedModel, dtype: torch.dtype, folder: Path) -> None:
    """Weights, configuration, generation configuration, tokenizer and chat template.

    The model in memory is used up, so that the one written can be loaded in its place. Raises ExportError.
    """
    model: Any = loaded.model
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    try:
        model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    except ValueError as error:  # a generation configuration that contradicts itself, for one
        raise ExportError(f"transformers refuses to write this model: {error}") from error
    model.to("meta")


def reopened(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) as anybody would load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
