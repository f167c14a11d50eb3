"""The editor under measurement, as the service makes it or as the method was published; the only place that edits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.measure import Stopwatch
from bench.quality.facts import Fact
from bench.quality.progress import Advance
from bench.quality.published import published_steps
from editor_core import Editor, EditorConfig
from editor_core.loading import LoadedModel
from editor_core.presets import preset_for
from editor_core.text_editor import EditPolicy, FactEditor, TextEditor
from editor_core.texts import Edit
from service.settings import Settings
from service.worker.editors import build_editor
from service.worker.facts import read_facts
from service.worker.warmup import BATCH_SIZE

Mode = Literal["service", "paper"]


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """What one batch took, verification included, and what the loop itself says of it.

    held   edits that the editor's own verification found to hold in every format it edits
    """

    edits: int
    held: int
    passes: int
    seconds: float
    cores_of_others: float


def make_text_editor(loaded: LoadedModel, mode: Mode) -> FactEditor:
    """service: as a worker makes it under the settings of the environment. paper: the published recipe on its preset.

    SystemExit for a model without a preset in paper mode; raises ModelLoadError for one that the service refuses.
    """
    if mode == "service":
        return build_editor(loaded, Settings())
    config = published_config(loaded)
    if config is None:
        raise SystemExit(f"there is no preset for {loaded.name}; the published recipe needs one")
    return TextEditor(Editor(loaded.model, config), loaded.tokenizer, EditPolicy(formats=("plain",), passes=1))


def published_config(loaded: LoadedModel) -> EditorConfig | None:
    """The preset with the published loss; None without a preset."""
    known = preset_for(loaded.model.config)
    return _with_published_loss(known[1]) if known else None


def published_steps_beside(text_editor: FactEditor, loaded: LoadedModel, facts: Sequence[Fact]) -> dict[str, Stopwatch]:
    """One published step over these facts, timed, by form; of the editor's own layers where there is no preset."""
    config = published_config(loaded) or _with_published_loss(text_editor.editor.config)
    return published_steps(loaded, config, read_facts(Settings()), _edits_of(facts))


def _with_published_loss(config: EditorConfig) -> EditorConfig:
    return dataclasses.replace(config, loss_tokens=None)  # the mean over a mini-batch's own answer tokens


def _edits_of(facts: Sequence[Fact]) -> list[Edit]:
    return [Edit(fact.prompt, fact.target) for fact in facts]


def warm_up(text_editor: FactEditor, mode: Mode, advance: Advance) -> str:
    """Warm up as the mode says and commit it; returns how: "observe", "apply" or "off"."""
    how = "apply" if mode == "paper" or Settings().warmup_is_applied else Settings().warmup
    if how == "off":
        return how
    edits, proposal = read_facts(Settings()), None
    for seen, proposal in text_editor.warm_up(edits, BATCH_SIZE, apply=how == "apply"):  # noqa: B007 the last one brings it
        advance(seen / len(edits))
    assert proposal is not None
    text_editor.editor.apply(proposal)
    return how


def apply_batches(text_editor: FactEditor, facts: Sequence[Fact], batch_size: int) -> Iterator[AppliedBatch]:
    """Edit the facts for good, batch by batch; yields after each."""
    edits = _edits_of(facts)
    for start in range(0, len(edits), batch_size):
        batch, stopwatch = edits[start : start + batch_size], Stopwatch()
        with stopwatch("batch"):
            result = text_editor.propose(batch)
            text_editor.editor.apply(result.proposal)
        held = sum(all(each.values()) for each in result.holds)
        yield AppliedBatch(len(batch), held, result.passes, stopwatch.total, stopwatch.cores_of_others)


def described(text_editor: FactEditor) -> dict[str, Any]:
    """The editor's and the policy's settings, as far as they are numbers and words."""
    return {"editor": _simple(text_editor.editor.config), "policy": _simple(text_editor.policy)}


def _simple(settings: Any) -> dict[str, Any]:
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if _is_simple(value)}


def _is_simple(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_simple(each) for each in value)
    return value is None or isinstance(value, str | int | float | bool)
