"""Slots kept apart, for models whose feed-forward blocks have no place for a bias: a modeling file of their own in the folder.

The file is `modeling_errata.py` of this package with the model's own classes in place of Llama's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editor_core.errors import ExportError

TEMPLATE = Path(__file__).with_name("modeling_errata.py")
CONFIG_CLASS, MODEL_CLASS = "ErrataConfig", "ErrataForCausalLM"


def modeling_source(model: Any) -> str:
    """The modeling file for a model of this class. Raises ExportError for a class that transformers does not bring itself."""
    config, model_type = type(model.config), str(model.config.model_type)
    for known in (config, type(model)):
        if not known.__module__.startswith("transformers.models."):
            raise ExportError(f"{known.__module__}.{known.__name__} is not one of transformers' own classes: it has other code")
    source = TEMPLATE.read_text(encoding="utf-8")
    in_place_of = {
        _import("transformers.models.llama.configuration_llama", "LlamaConfig"): _import(config.__module__, config.__name__),
        _import("transformers.models.llama.modeling_llama", "LlamaForCausalLM"): _import(
            type(model).__module__, type(model).__name__
        ),
        f'"{_model_type("llama")}"': f'"{_model_type(model_type)}"',
    }
    for llama, own in in_place_of.items():
        assert source.count(llama) == 1, llama
        source = source.replace(llama, own)
    return source


def add_custom_code(model: Any, slots: Mapping[str, int], folder: Path) -> None:
    """Make a folder of `model.save_pretrained`, whose weights have the slots in them, one that loads with them.

    slots: how many each block has, by the block's name.
    """
    (folder / TEMPLATE.name).write_text(modeling_source(model), encoding="utf-8")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {
        "model_type": _model_type(config["model_type"]),
        "architectures": [MODEL_CLASS],
        "auto_map": {
            "AutoConfig": f"{TEMPLATE.stem}.{CONFIG_CLASS}",
            "AutoModelForCausalLM": f"{TEMPLATE.stem}.{MODEL_CLASS}",
        },
        "errata_slots": dict(slots),
    }
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _import(module: str, name: str) -> str:
    return f"from {module} import {name} as"


def _model_type(own: str) -> str:
    return f"errata_{own}"
