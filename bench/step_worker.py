"""One run of one form of the editing step, in a process of its own: load, warm up on other edits, time one step."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from bench.direct import Estimates, direct_step
from bench.measure import Stopwatch, first_repetition, peak_mib
from editor_core import Editor, EditorConfig
from editor_core.config import Phase
from editor_core.loading import load_model
from editor_core.presets import PRESETS
from editor_core.texts import Edit, encode, minibatches

MINIBATCH_SIZE = 10  # as the authors run it
Batch = list[dict[str, torch.Tensor]]
Deltas = dict[str, torch.Tensor]


class Ours:
    """The step of `editor_core`, its stages called one by one as `Editor.propose` does."""

    def __init__(self, model: nn.Module, config: EditorConfig) -> None:
        self.editor = Editor(model, config)

    def step(self, batch: Batch, phase: Phase, stage: Stopwatch) -> Deltas:
        with stage("capture"):
            rows = self.editor.capture(batch)
        with stage("statistics"):
            statistics = self.editor.observe(rows)
        with stage("solve"):
            self.proposal = self.editor.solve(rows, statistics, phase)
        with stage("dense product"):
            return {name: update.dense() for name, update in self.proposal.updates.items()}

    def apply(self, deltas: Deltas) -> None:
        self.editor.apply(self.proposal)


class Direct:
    """The step by its formulas, through a temporary folder."""

    def __init__(self, model: nn.Module, config: EditorConfig) -> None:
        self.model, self.config = model, config
        self.statistics: Estimates = {}

    def step(self, batch: Batch, phase: Phase, stage: Stopwatch) -> Deltas:
        with tempfile.TemporaryDirectory() as folder:
            deltas, self.statistics = direct_step(self.model, self.config, self.statistics, batch, phase, Path(folder), stage)
        return deltas

    def apply(self, deltas: Deltas) -> None:
        for name, delta in deltas.items():
            self.model.get_submodule(name).weight.data += delta.T


FORMS = {"ours": Ours, "direct": Direct}


def read_edits(path: Path) -> list[Edit]:
    """Edits from a JSON list of objects with prompt and target, or the same one a line."""
    text = path.read_text()
    objects: Sequence[Mapping[str, str]]
    objects = [json.loads(line) for line in text.splitlines() if line] if path.suffix == ".jsonl" else json.loads(text)
    return [Edit(each["prompt"], each["target"]) for each in objects]


def run(form: str, data: Path, cache_dir: Path, edits: int, deltas_to: Path | None) -> dict[str, object]:
    """Seconds of the step and of its stages, and peak memory before the warm-up and at the end."""
    loaded = load_model("demo", cache_dir=cache_dir)
    config = PRESETS["smollm2-135m"].config
    chosen = read_edits(data)[: 2 * edits]
    if len(chosen) < 2 * edits:
        raise SystemExit(f"{data.name} holds {len(chosen)} edits; {edits} for the step and {edits} to warm up are needed")
    examples = [encode(loaded.tokenizer, edit, "plain", index) for index, edit in enumerate(chosen)]
    pad = loaded.tokenizer.pad_token_id
    _, warmup = minibatches(examples[:edits], MINIBATCH_SIZE, pad)
    _, batch = minibatches(examples[edits:], MINIBATCH_SIZE, pad)
    before = peak_mib()
    doer = FORMS[form](loaded.model, config)
    doer.apply(doer.step(warmup, "warmup", Stopwatch()))
    stopwatch = Stopwatch()
    deltas = doer.step(batch, "edit", stopwatch)
    peak = peak_mib()
    if deltas_to is not None:
        save_file({name: delta.contiguous() for name, delta in deltas.items()}, deltas_to)
    rows = sum(int((each["labels"] != -100).sum()) for each in batch)
    return {
        "seconds": stopwatch.total,
        "stages": stopwatch.seconds,
        "cores_of_others": stopwatch.cores_of_others,
        "before_mib": before,
        "peak_mib": peak,
        "answer_tokens": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--edits", type=int, required=True)
    parser.add_argument("--deltas", type=Path, required=True)
    asked = parser.parse_args()
    outcome = run(asked.form, asked.data, asked.cache_dir, asked.edits, asked.deltas if first_repetition() else None)
    print(json.dumps(outcome))
