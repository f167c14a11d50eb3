"""One measurement from beginning to end: ask the model, edit it, ask again."""

from __future__ import annotations

import platform
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers.utils.logging import disable_progress_bar

from bench.quality.asking import KINDS, ask
from bench.quality.downstream import Item, option_scores, read_items
from bench.quality.editing import apply_batches, described, make_text_editor, published_steps_beside, warm_up
from bench.quality.facts import Fact, read_facts
from bench.quality.figures import (
    Figures,
    Said,
    answer_figures,
    cost_figures,
    damage_figures,
    downstream_figures,
    forced_figures,
    success_figures,
)
from bench.quality.forced import teacher_forced
from bench.quality.plain_texts import plain_texts
from bench.quality.progress import Phases
from bench.quality.reference import Reference
from bench.quality.table import rows
from editor_core.loading import load_model
from editor_core.texts import Format, supported_formats

PACKAGES = ("errata-llm", "torch", "transformers")
MODELS = ("unedited", "edited")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured.

    downstream   file of tasks, downstream_items of each; None: no tasks
    texts        file of plain texts, one a line; None: sentences out of the downstream file
    """

    data: Path
    edits: int
    start: int
    batch_size: int
    model: str
    cache_dir: Path
    downstream: Path | None
    downstream_items: int
    texts: Path | None
    seed: int


def measure(console: Console, asked: Asked) -> Figures:
    """Everything that is kept of one run. SystemExit when a file does not hold what is needed."""
    torch.manual_seed(asked.seed)
    random.seed(asked.seed)
    disable_progress_bar()  # there is one already
    facts = read_facts(asked.data, asked.start, asked.edits)
    items = read_items(asked.downstream, asked.downstream_items, asked.seed) if asked.downstream else {}
    texts = plain_texts(asked.texts, asked.downstream, asked.seed)
    first = facts[: asked.batch_size]
    with Phases(console, _weights(facts, items, texts)) as phases:
        with phases("loading"):
            loaded = load_model(asked.model, cache_dir=asked.cache_dir)
            text_editor = make_text_editor(loaded)
            model, tokenizer, formats = loaded.model, loaded.tokenizer, supported_formats(loaded.tokenizer)
        with phases("published step"):
            published = published_steps_beside(text_editor, loaded, first)
        with phases("unedited: reference"):
            unrelated = [fact.unrelated_prompt for fact in facts]
            reference = Reference.of(model, tokenizer, unrelated, formats, texts)
        unedited = _said("unedited", phases, model, tokenizer, facts, items, formats)
        with phases("warm-up") as advance:
            warm_up(text_editor, advance)
        with phases("edits") as advance:
            batches = []
            for batch in apply_batches(text_editor, facts, asked.batch_size):
                batches.append(batch)
                advance(sum(each.edits for each in batches) / len(facts))
        edited = _said("edited", phases, model, tokenizer, facts, items, formats)
        with phases("edited: damage"):
            damage = reference.compare(model, tokenizer)
    figures: Figures = {
        "settings": _settings(asked, loaded.name) | described(text_editor),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "seconds": phases.stopwatch.seconds,
        "cores_of_others": phases.stopwatch.cores_of_others,
        "success": success_figures(unedited, edited, formats),
        **damage_figures(reference, damage),
        "downstream": downstream_figures(items, unedited, edited),
        "teacher_forced": forced_figures(unedited, edited),
        "cost": cost_figures(batches, published, len(first)),
        "answers": answer_figures(unedited, edited),
    }
    return {"met": {row.what.strip(): row.met for row in rows(figures) if row.met is not None}, **figures}


def _said(
    who: str,
    phases: Phases,
    model: nn.Module,
    tokenizer: Any,
    facts: Sequence[Fact],
    items: dict[str, list[Item]],
    formats: Sequence[Format],
) -> Said:
    with phases(f"{who}: asking") as advance:
        answers = ask(model, tokenizer, facts, formats, advance)
    with phases(f"{who}: targets") as advance:
        forced = teacher_forced(model, tokenizer, facts, advance)
    with phases(f"{who}: tasks") as advance:
        scores = option_scores(model, tokenizer, items, advance)
    return Said(answers, forced, scores)


def _weights(facts: Sequence[Fact], items: dict[str, list[Item]], texts: Sequence[str]) -> dict[str, float]:
    """About how many seconds each phase takes for a model of 135M parameters on two cores: how the bar is divided."""
    count = len(facts)
    said = {"asking": 0.2 * count * len(KINDS), "targets": 0.1 * count, "tasks": 0.2 * sum(map(len, items.values()))}
    against = 0.3 * count + 0.2 * len(texts)
    return {
        "loading": 10.0,
        "published step": 30.0 + 0.2 * count,
        "unedited: reference": against,
        "warm-up": 15.0,
        "edits": 1.0 * count,
        "edited: damage": against,
        **{f"{who}: {phase}": seconds for who in MODELS for phase, seconds in said.items()},
    }


def _settings(asked: Asked, model: str) -> dict[str, Any]:
    return {
        "data": asked.data.name,
        "start": asked.start,
        "edits": asked.edits,
        "batch_size": asked.batch_size,
        "model": model,
        "downstream": asked.downstream.name if asked.downstream else None,
        "downstream_items": asked.downstream_items,
        "texts": asked.texts.name if asked.texts else None,
        "seed": asked.seed,
        "threads": torch.get_num_threads(),
    }
