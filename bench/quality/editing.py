"""The editor under measurement: the published recipe on the model's preset; the only place that edits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure import Stopwatch
from bench.quality.facts import Fact
from bench.quality.progress import Advance
from bench.quality.published import published_steps
from editor_core import Editor
from editor_core.loading import LoadedModel
from editor_core.presets import preset_for
from editor_core.text_editor import TextEditor
from editor_core.texts import Edit
from service.settings import Settings
from service.worker.facts import read_facts
from service.worker.warmup import BATCH_SIZE


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """What one batch took, verification included, and what the loop itself says of it.

    held   edits that the editor's own verification found to hold
    """

    edits: int
    held: int
    seconds: float
    cores_of_others: float


def make_text_editor(loaded: LoadedModel) -> TextEditor:
    """SystemExit for a model without a preset."""
    known = preset_for(loaded.model.config)
    if known is None:
        raise SystemExit(f"there is no preset for {loaded.name}; the published recipe needs one")
    return TextEditor(Editor(loaded.model, known[1]), loaded.tokenizer)


def published_steps_beside(text_editor: TextEditor, loaded: LoadedModel, facts: Sequence[Fact]) -> dict[str, Stopwatch]:
    """One step over these facts, timed, by form."""
    return published_steps(loaded, text_editor.editor.config, read_facts(Settings()), _edits_of(facts))


def _edits_of(facts: Sequence[Fact]) -> list[Edit]:
    return [Edit(fact.prompt, fact.target) for fact in facts]


def warm_up(text_editor: TextEditor, advance: Advance) -> None:
    """Warm up as a worker does and commit it."""
    edits, proposal = read_facts(Settings()), None
    for seen, proposal in text_editor.warm_up(edits, BATCH_SIZE):  # noqa: B007 the last one brings it
        advance(seen / len(edits))
    assert proposal is not None
    text_editor.editor.apply(proposal)


def apply_batches(text_editor: TextEditor, facts: Sequence[Fact], batch_size: int) -> Iterator[AppliedBatch]:
    """Edit the facts for good, batch by batch; yields after each."""
    edits = _edits_of(facts)
    for start in range(0, len(edits), batch_size):
        batch, stopwatch = edits[start : start + batch_size], Stopwatch()
        with stopwatch("batch"):
            result = text_editor.propose(batch)
            text_editor.editor.apply(result.proposal)
        held = sum(all(each.values()) for each in result.holds)
        yield AppliedBatch(len(batch), held, stopwatch.total, stopwatch.cores_of_others)


def described(text_editor: TextEditor) -> dict[str, Any]:
    """The editor's and the policy's settings, as far as they are numbers and words."""
    return {"editor": _simple(text_editor.editor.config), "policy": _simple(text_editor.policy)}


def _simple(settings: Any) -> dict[str, Any]:
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if _is_simple(value)}


def _is_simple(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_simple(each) for each in value)
    return value is None or isinstance(value, str | int | float | bool)
