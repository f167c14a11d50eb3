"""The direct form against the golden runs in tests/golden: does the plain form itself do what the methods' authors do?"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from bench.direct import Estimates, direct_step

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def largest_error(path: Path) -> float:
    """The largest relative error of any shift, over all steps of one golden run in sequence."""
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**meta["model_config"])).eval()
    model.load_state_dict({name.removeprefix("init/"): each for name, each in tensors.items() if name.startswith("init/")})
    config = SimpleNamespace(modules=meta["modules"], lr=meta["lr"], algorithm=meta["algorithm"], alpha=meta["alpha"])
    statistics: Estimates = {}
    largest = 0.0
    for step in range(meta["warmup_steps"] + meta["edit_steps"]):
        phase = "warmup" if step < meta["warmup_steps"] else "edit"
        with tempfile.TemporaryDirectory() as folder:
            deltas, statistics = direct_step(model, config, statistics, _batches(tensors, step), phase, Path(folder))
        for name, delta in deltas.items():
            expected = tensors[f"step{step}/shift/{name}"]
            largest = max(largest, float((delta - expected).norm() / expected.norm()))
            model.get_submodule(name).weight.data += delta.T
    return largest


def _batches(tensors: dict[str, torch.Tensor], step: int) -> list[dict[str, torch.Tensor]]:
    start = f"step{step}/batch"
    count = len({name.split("/")[1] for name in tensors if name.startswith(start)})
    fields = ("input_ids", "attention_mask", "labels")
    return [{field: tensors[f"{start}{number}/{field}"] for field in fields} for number in range(count)]


if __name__ == "__main__":
    for run in sorted(GOLDEN.glob("*.safetensors")):
        print(f"{run.stem}: largest relative error of any shift {largest_error(run):.1e}")
