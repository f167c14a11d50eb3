"""Decoys: facts whose marks stand for those of other edits, so that an answer's slot is for one edit's mark and not for any.

Their subjects are taught on a draft of the unedited model. What the subject blocks after the first then read at them, and what
reaches the positions that say their answers, is kept in a file and counted in M beside what the model usually reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from editor_core.background import Background, keep_tensors
from editor_core.slot_batch import SlotBatch
from editor_core.slot_capture import answer_rows, captured
from editor_core.slot_teaching import SlotTeacher
from editor_core.slots import SlotBank
from editor_core.texts import Edit

VERSION = 2  # of how subjects are told apart: a file of another is not read
DECOYS_TOGETHER = 50
DECOY_WEIGHT = 10.0  # of a decoy's input, in inputs of the background

BatchOf = Callable[[Sequence[Edit]], SlotBatch]


def with_decoys(teacher: SlotTeacher, batch_of: BatchOf, decoys: Sequence[Edit], folder: Path | None) -> Background:
    """The teacher's background, in which answer blocks have the decoys' inputs as well; from a file in the folder, if there."""
    path = folder / f"decoys-{_identity(teacher, decoys)}.safetensors" if folder else None
    if path is not None and path.is_file():
        keys = {name: tensor.clone() for name, tensor in load_file(path).items()}
    else:
        parts = [
            _keys(teacher, batch_of(decoys[start : start + DECOYS_TOGETHER]))
            for start in range(0, len(decoys), DECOYS_TOGETHER)
        ]
        keys = {name: torch.cat([each[name] for each in parts]) for name in parts[0]}
        if path is not None:
            keep_tensors(keys, path)
    return teacher.background | {name: teacher.background[name].beside(keys[name], DECOY_WEIGHT) for name in keys}


def _keys(teacher: SlotTeacher, batch: SlotBatch) -> dict[str, torch.Tensor]:
    with batch.draft:
        teacher.editor.masters.restore_base()
        read = teacher.read(batch)
    for _ in teacher.teach_subjects(batch, read):
        pass
    teacher.read_marked(batch)
    modules = batch.modules(teacher.policy.answer_blocks)
    with batch.draft:
        rows = captured(teacher.editor.model, modules, batch.examples, batch.passages, quick=True)
    return dict(answer_rows(rows, batch.examples).keys) | batch.marked


def _identity(teacher: SlotTeacher, decoys: Sequence[Edit]) -> str:
    digest = hashlib.sha256(f"{VERSION} {teacher.policy} {tuple(decoys)}".encode())
    for module in teacher.editor.modules:
        assert isinstance(module.module, SlotBank)
        digest.update(f"{module.name} {module.module.host_digest}".encode())
    return digest.hexdigest()[:16]
