"""Calibration: the choice that holds and carries over, and what cannot be edited."""

from __future__ import annotations

import pytest

from editor_core.errors import CannotEditError
from editor_core.loading import LoadedModel
from editor_core.scoped import calibration
from editor_core.scoped.calibration import Trial, calibrate
from editor_core.scoped.editor import ScopedPolicy
from editor_core.scoped.update import UpdatePolicy
from editor_core.texts import Edit
from tests.core.small_model import small_tokenizer, tiny

FACTS = [Edit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater"), Edit("Where was Ilse Brandt born?", "Graz")]
TEXTS = ["In winter, people often stay at home and read the news of the day."]


def tried(model: object, tokenizer: object) -> list[Trial]:
    def policy(step: float) -> ScopedPolicy:
        return ScopedPolicy(update=UpdatePolicy(step=step))

    return calibrate(model, tokenizer, FACTS, TEXTS, policy, lambda doing, share: None)


def test_a_random_model_is_refused_because_it_models_no_text() -> None:
    tokenizer = small_tokenizer()
    with pytest.raises(CannotEditError, match="models no text"):
        tried(tiny(tokenizer), tokenizer)


def test_the_best_choice_holds_and_carries_over(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "DEPTHS", (0.82, 0.97))
    monkeypatch.setattr(calibration, "STEPS", (1.0,))
    best, other = tried(loaded.model, loaded.tokenizer)
    assert (best.held, best.carried) == (1.0, 1.0)
    assert best.blocks == ("model.layers.24.mlp.down_proj", "model.layers.25.mlp.down_proj")
    assert best.rank > other.rank
