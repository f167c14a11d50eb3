"""Edits in force in a transformers model of one's own: `generate` and plain passes of one sequence answer as the service does.

An exported folder holds the model, `edits.safetensors`, the question encoder, and this package; `load` brings them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from editor_core.modules import resolve_modules
from editor_core.scoped.encoder import QuestionEncoder
from editor_core.scoped.entry import Entry
from editor_core.scoped.following import Following, Rules
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.overlay import over
from editor_core.scoped.record import Record
from editor_core.scoped.served import ServedEdits

RECORDS, ENCODER = "edits.safetensors", "question_encoder"
_SUFFIX, _ATTACHED = "/record", "_errata_attached"


class AttachedEdits:
    """Hooks of one model. Passes of one sequence at a time: what is in force depends on the sequence's text.

    A pass on a cache goes on with the sequence that was read last, or branches off it where the cache holds less of it.
    """

    def __init__(self, model: Any, served: ServedEdits) -> None:
        """Raises ValueError when edits are attached to the model already."""
        if getattr(model, _ATTACHED, False):
            raise ValueError("edits are attached to this model already: remove() them first")
        setattr(model, _ATTACHED, True)
        self._model, self._served = model, served
        self._following: Following | None = None
        self._tokens: list[int] = []
        self._over: AbstractContextManager[None] | None = None
        self._handles = (
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, always_call=True),
        )

    def remove(self) -> None:
        """The model is the unedited one again."""
        for each in self._handles:
            each.remove()
        setattr(self._model, _ATTACHED, False)

    def _before(self, model: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = arguments[0] if arguments else named.get("input_ids")
        if ids is None or ids.shape[0] != 1:
            raise ValueError("edits are in force in one sequence of input_ids at a time: call it once for each")
        cache = named.get("past_key_values")
        read = int(cache.get_seq_length()) if cache is not None else 0
        tokens = ids[0].tolist()
        if read > len(self._tokens):
            raise ValueError("the cache holds tokens that were not read with these edits: begin with an empty one")
        if self._following is not None and read == len(self._tokens) and read and len(tokens) == 1:
            self._following.said(tokens[0])
        else:
            self._following = self._served.follow([*self._tokens[:read], *tokens])
        self._tokens = [*self._tokens[:read], *tokens]
        self._over = over(self._served.ranges(self._following, read, len(self._tokens)))
        self._over.__enter__()

    def _after(self, model: Any, arguments: tuple[Any, ...], output: Any) -> None:
        if self._over is not None:
            self._over.__exit__(None, None, None)
            self._over = None


def attach(model: Any, tokenizer: Any, records: Mapping[int, bytes], encoder: QuestionEncoder | None = None) -> AttachedEdits:
    """Have the records of these edits, by id, be in force in a model. Raises ValueError for bytes that are no record."""
    known = {edit: Record.from_bytes(data) for edit, data in records.items()}
    names = {name for record in known.values() for name in record.updates}
    modules = resolve_modules(model, [name for name, _ in model.named_modules() if name in names])
    rules = Rules(tokenizer, (encoder or QuestionEncoder.load()).encode)
    served = ServedEdits(rules, modules, lambda name: records[int(name, 16)])
    served.state = EditsInForce.of((edit, Entry.of(f"{edit:064x}", record.address)) for edit, record in known.items())
    return AttachedEdits(model, served)


def load(folder: Path | str) -> tuple[Any, Any]:
    """(model, tokenizer) of an exported folder, with its edits in force."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    attach(model, tokenizer, read_records(folder / RECORDS), QuestionEncoder.load(folder=folder / ENCODER))
    return model, tokenizer


def write_records(records: Mapping[int, bytes], revision: int, file: Path) -> None:
    """One tensor of bytes an edit, by its id."""
    tensors = {f"{edit}{_SUFFIX}": torch.frombuffer(bytearray(data), dtype=torch.uint8) for edit, data in records.items()}
    save_file(tensors or {"none": torch.empty(0)}, file, {"revision": str(revision), "format": "errata"})


def read_records(file: Path) -> dict[int, bytes]:
    """By edit id."""
    with safe_open(file, "pt") as opened:
        names = [name for name in opened.keys() if name.endswith(_SUFFIX)]  # noqa: SIM118
        return {int(name.removesuffix(_SUFFIX)): opened.get_tensor(name).numpy().tobytes() for name in names}
