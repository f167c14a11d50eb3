"""How long one step of the published method takes on the same edits: the unit in which the cost of an edit is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bench.measure import Stopwatch
from bench.step_worker import FORMS, MINIBATCH_SIZE
from editor_core import EditorConfig
from editor_core.loading import LoadedModel
from editor_core.texts import Edit, encode, minibatches


def published_steps(
    loaded: LoadedModel, config: EditorConfig, warmup: Sequence[Edit], edits: Sequence[Edit]
) -> dict[str, Stopwatch]:
    """One step over `edits` in plain format, after a warm-up step, by every form of it: {"ours": …, "direct": …}.

    The model leaves as it came.
    """
    before, batch = _minibatches(loaded, warmup), _minibatches(loaded, edits)
    stopwatches = {form: Stopwatch() for form in FORMS}
    for form, make in FORMS.items():
        with _weights_kept(loaded.model, config.modules):
            doer: Any = make(loaded.model, config)
            doer.apply(doer.step(before, "warmup", Stopwatch()))
            doer.step(batch, "edit", stopwatches[form])
    return stopwatches


def _minibatches(loaded: LoadedModel, edits: Sequence[Edit]) -> list[dict[str, torch.Tensor]]:
    examples = [encode(loaded.tokenizer, edit, "plain", index) for index, edit in enumerate(edits)]
    return minibatches(examples, MINIBATCH_SIZE, loaded.tokenizer.pad_token_id)[1]


@contextmanager
def _weights_kept(model: nn.Module, modules: Sequence[str]) -> Iterator[None]:
    """Let copies of these modules' weights be edited, and put the weights themselves back afterwards."""
    kept = {name: model.get_parameter(f"{name}.weight").data for name in modules}
    for name, weight in kept.items():
        model.get_parameter(f"{name}.weight").data = weight.clone()
    try:
        yield
    finally:
        for name, weight in kept.items():
            model.get_parameter(f"{name}.weight").data = weight
