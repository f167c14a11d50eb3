"""A folder that `AutoModelForCausalLM.from_pretrained` loads: the model as it is, with its slots made part of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from editor_core.errors import ExportError
from editor_core.export.custom_code import add_custom_code, modeling_source
from editor_core.export.folding import NEURONS, fold_slots, folded_width, why_not_foldable
from editor_core.loading import LoadedModel
from editor_core.slot_defaults import gated_blocks
from editor_core.slots import banks_of, detach_slots

SlotForm = Literal["none", "folded", "code"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model will be written.

    form    what becomes of its slots: there are "none", they are "folded" into the blocks' own neurons, or stay apart in "code"
    words   the same for people, with the reason
    size    bytes of all weights, about
    """

    form: SlotForm
    words: str
    size: int


def plan(model: Any, dtype: torch.dtype, custom_code: bool) -> Plan:
    """custom_code: keep slots apart even where they could be folded. Raises ExportError when neither can be done."""
    slots = slots_by_block(model)
    own = sum(each.numel() for each in model.parameters()) - sum(bank.weight.numel() for bank in banks_of(model).values())
    if not slots:
        return Plan("none", "the weights have no slots beside them", own * dtype.itemsize)
    total = f"{sum(slots.values())} slots in {len(slots)} blocks"
    obstacle = "" if custom_code else why_not_foldable(model)
    if custom_code or obstacle:
        modeling_source(model)  # raises where there is none
        why = obstacle or "as asked for"
        size = own * dtype.itemsize + sum(bank.weight.numel() * 4 for bank in banks_of(model).values())
        return Plan("code", f"{total} are kept apart, in modeling_errata.py ({why})", size)
    width, before = folded_width(model), int(model.config.intermediate_size)
    added = sum(_parameters_added(model, name, width) for name in gated_blocks(model))
    words = f"{total} are {NEURONS} neurons each: intermediate_size {before} -> {width} in all blocks, mlp_bias true"
    return Plan("folded", words, (own + added) * dtype.itemsize)


def slots_by_block(model: Any) -> dict[str, int]:
    """How many slots each block has, of those that have any."""
    return {name.rpartition(".")[0]: bank.count for name, bank in banks_of(model).items() if bank.count}


@torch.no_grad()
def write_model(loaded: LoadedModel, planned: Plan, dtype: torch.dtype, folder: Path) -> None:
    """Weights, configuration, generation configuration, tokenizer and chat template.

    The model in memory is used up, so that the one written can be loaded in its place. Raises ExportError.
    """
    model: Any = loaded.model
    banks = {id(bank.weight) for bank in banks_of(model).values()}
    for parameter in model.parameters():
        if id(parameter) not in banks:  # detectors stay float32 while they are apart
            parameter.data = parameter.data.to(dtype)
    slots = slots_by_block(model)
    if planned.form == "folded":
        fold_slots(model)
    elif planned.form == "none":
        detach_slots(model)
    else:
        detach_slots(model, [name for name, bank in banks_of(model).items() if not bank.count])
    try:
        model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    except ValueError as error:  # a generation configuration that contradicts itself, for one
        raise ExportError(f"transformers refuses to write this model: {error}") from error
    if planned.form == "code":
        add_custom_code(model, slots, folder)
    model.to("meta")


def reopened(folder: Path, form: SlotForm) -> tuple[Any, Any]:
    """(model, tokenizer) as anybody would load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trust = {"trust_remote_code": True} if form == "code" else {}
    model = AutoModelForCausalLM.from_pretrained(folder, **trust)
    tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
    return model.eval(), tokenizer


def _parameters_added(model: Any, block: str, width: int) -> int:
    host: Any = model.get_submodule(block)
    d_in, d_out, before = host.gate_proj.in_features, host.down_proj.out_features, host.gate_proj.out_features
    return int((width - before) * (2 * d_in + d_out) + 2 * width + d_out)
