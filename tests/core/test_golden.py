"""The golden runs: exact inputs and outputs of the methods' own implementations, step after step."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from editor_core import Editor, EditorConfig

GOLDEN = Path(__file__).parents[1] / "golden"
RUNS = sorted(GOLDEN.glob("*.safetensors"))


class GoldenRun:
    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.meta = json.loads(file.metadata()["meta"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def model(self) -> torch.nn.Module:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**self.meta["model_config"]))
        model.load_state_dict(self.under("init/"), strict=True)
        return model

    def editor(self) -> Editor:
        meta = self.meta
        config = EditorConfig(modules=meta["modules"], lr=meta["lr"], algorithm=meta["algorithm"], ridge=meta["alpha"])
        return Editor(self.model(), config)

    def minibatches(self, step: int) -> list[dict[str, torch.Tensor]]:
        fields = self.under(f"step{step}/batch")
        count = len({name.split("/")[0] for name in fields})
        names = ("input_ids", "attention_mask", "labels")
        return [{name: fields[f"{j}/{name}"] for name in names} for j in range(count)]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shift_of_every_step_matches_the_authors_implementation(path: Path) -> None:
    run = GoldenRun(path)
    editor = run.editor()
    for step in range(run.meta["warmup_steps"] + run.meta["edit_steps"]):
        proposal = editor.propose(run.minibatches(step), phase="warmup" if step < run.meta["warmup_steps"] else "edit")
        for name in run.meta["modules"]:
            error = relative_error(proposal.updates[name].dense(), run.tensors[f"step{step}/shift/{name}"])
            assert error < 1e-4, f"step {step}, {name}: relative error {error:.2e}"
        editor.apply(proposal)
    weights = dict(editor.model.named_parameters())
    for name, expected in run.under("final/").items():
        assert relative_error(weights[name].detach(), expected) < 1e-5


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_final_statistics_match(path: Path) -> None:
    run = GoldenRun(path)
    editor = run.editor()
    for step in range(run.meta["warmup_steps"] + run.meta["edit_steps"]):
        editor.apply(editor.propose(run.minibatches(step), phase="warmup" if step < run.meta["warmup_steps"] else "edit"))
    found = editor.statistics.state_dict()
    for shape in {name.split("/")[0] for name in run.under("stats/")}:
        golden = run.under(f"stats/{shape}/")
        assert found[f"{shape}/n"].item() == golden["n"].item()
        assert relative_error(found[f"{shape}/second_moment"].float(), golden["var"]) < 1e-4
        assert relative_error(found[f"{shape}/mean"].float(), golden["mean"]) < 1e-4
        if "cov_value" in golden:
            assert relative_error(found[f"{shape}/co_moment"], golden["cov_value"]) < 1e-4
