"""`python -m bench update --data facts.json`: the gradient as it is against the gradient whitened by the lifelong covariance.

Each is taught the same facts, after the statistics have seen the same others: does it hold, in how many steps, with what norm,
and is it answered in contexts that it was not taught in. `floor` is the least eigenvalue, as a share of the largest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.measure import RESULTS, write_result
from editor_core.loading import LoadedModel, load_model
from editor_core.modules import EditedModule, resolve_modules
from editor_core.scoped.blocks import default_blocks, feed_forward_outputs
from editor_core.scoped.calibration import carried_over
from editor_core.scoped.editor import ScopedEditor
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.update import Teacher, Whitener
from editor_core.statistics import Statistics
from editor_core.texts import Edit
from service.settings import Settings

FLOORS = (1e-4, 1e-2, 1e-1)


@dataclass(frozen=True, slots=True)
class Worth:
    """Of one direction: shares and means over all facts."""

    holds: float
    steps: float
    norm: float
    seconds: float
    carried: float


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench update", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="JSON list of facts with prompt and target")
    parser.add_argument("--facts", type=int, default=24, help="that are taught, the first ones")
    parser.add_argument("--seen", type=int, default=45, help="that the statistics have seen before, those after them")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON results")
    asked, console = parser.parse_args(arguments), Console()
    rows = json.loads(asked.data.read_text(encoding="utf-8"))[: asked.facts + asked.seen]
    facts = [Edit(row["prompt"], row["target"]) for row in rows]
    settings = Settings()
    loaded = load_model(settings.model, cache_dir=settings.models)
    modules = resolve_modules(loaded.model, default_blocks(feed_forward_outputs(loaded.model)))
    editor = ScopedEditor(loaded.model, loaded.tokenizer, modules)
    run = editor.run(list(enumerate(facts[asked.facts :], 1)), EditsInForce())
    run.finish()
    assert run.statistics is not None
    directions: dict[str, Whitener | None] = {"as it is": None}
    directions |= {f"whitened, floor {floor:g}": whitener(run.statistics, floor) for floor in FLOORS}
    found = {name: _worth(loaded, editor, facts[: asked.facts], each, console, name) for name, each in directions.items()}
    table = Table("direction", "holds", "steps", "norm", "s a fact", "in untaught contexts")
    for name, worth in found.items():
        table.add_row(
            name,
            f"{worth.holds:.2f}",
            f"{worth.steps:.1f}",
            f"{worth.norm:.0f}",
            f"{worth.seconds:.2f}",
            f"{worth.carried:.2f}",
        )
    console.print(table)
    rows = [{"direction": name, **{field: getattr(worth, field) for field in worth.__slots__}} for name, worth in found.items()]
    write_result(asked.results, "update", {"rows": rows, "facts": asked.facts, "seen": asked.seen}, console)


def whitener(statistics: Statistics, floor: float) -> Callable[[EditedModule, torch.Tensor], torch.Tensor]:
    """Sigma^(-1/2) of what the statistics have seen of a module's gradients, its eigenvalues clamped from below."""
    known: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def whitened(module: EditedModule, gradients: torch.Tensor) -> torch.Tensor:
        if module.shape not in known:
            seen = statistics[module.shape]
            values, vectors = torch.linalg.eigh(seen.value_covariance().double())
            root = vectors @ torch.diag(values.clamp_min(floor * float(values[-1])).rsqrt()) @ vectors.T
            known[module.shape] = seen.value_moments()[0].double(), root
        mean, root = known[module.shape]
        return ((gradients.double() - mean) @ root).float()

    return whitened


def _worth(
    loaded: LoadedModel, editor: ScopedEditor, facts: Sequence[Edit], direction: Whitener | None, console: Console, name: str
) -> Worth:
    editor.teacher = Teacher(loaded.model, editor.modules, editor.policy.update, direction)
    began = time.perf_counter()
    with console.status(f"teaching {len(facts)} facts, {name}"):
        learned = editor.run(list(enumerate(facts, 1)), EditsInForce()).finish()
    seconds = (time.perf_counter() - began) / len(facts)
    norms = [update.norm() for each in learned for update in each.record.updates.values()]
    return Worth(
        sum(each.is_held for each in learned) / len(learned),
        sum(each.taught.passes for each in learned) / len(learned),
        sum(norms) / max(len(norms), 1),
        seconds,
        carried_over(editor, facts, learned),
    )
