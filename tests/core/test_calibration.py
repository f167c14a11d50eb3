"""Calibration: a profile that its facts hold with, or the reason why there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from editor_core import background, calibration
from editor_core.calibration import Calibration, CalibrationSet, calibrate
from editor_core.errors import CannotEditError, ConfigError
from editor_core.profile import Profile, identity
from editor_core.slot_defaults import default_profile, gated_blocks
from editor_core.slot_policy import SlotPolicy
from editor_core.slots import banks_of
from editor_core.texts import Edit
from editor_core.trial import Trial
from tests.core.test_slot_editor import small_tokenizer, tiny

FACTS = [
    Edit("Who is the mayor of Lake Tantrum?", "Odessa", rephrases=("Lake Tantrum has which mayor?",)),
    Edit("The symbol of unobtainium is", "Uq", rephrases=("What is the symbol of unobtainium?",)),
]
PROMPTS, TEXTS = ["Who wrote Hamlet?", "In winter, people often"], ["It rained for three days.", "The train was late."]
DATA = CalibrationSet(FACTS, FACTS, PROMPTS, TEXTS)
PROFILE = Profile(("a.1", "a.2"), ("a.3",), 0.6)


def policy_of(profile: Profile) -> SlotPolicy:
    return SlotPolicy(
        ("plain",), profile.subject_blocks, profile.answer_blocks, answer_passes=20, subject_step=profile.subject_step
    )


def calibrated(model: nn.Module, folder: Path, data: CalibrationSet = DATA) -> Calibration:
    return calibrate(model, small_tokenizer(), policy_of, data, folder)


@pytest.fixture
def guessing_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights are taken for a language model; what they usually read is collected in a second."""
    monkeypatch.setattr(calibration, "GUESSING", float("inf"))
    for name, size in {"ANCHOR_PROMPTS": 12, "DATED_TEXTS": 4, "ANSWER_TOKENS": 4, "LONE_TOKENS": 40, "TEXT_TOKENS": 6}.items():
        monkeypatch.setattr(background, name, size)


@pytest.mark.usefixtures("guessing_is_fine")
def test_the_best_profile_holds_and_the_model_is_left_without_a_slot(tmp_path: Path) -> None:
    model = tiny(small_tokenizer())
    found = calibrated(model, tmp_path)
    assert found.trials[0].profile == default_profile(gated_blocks(model))
    assert len({trial.profile for trial in found.trials}) == len(found.trials)
    assert found.best.holding >= 0.9
    assert found.best.rank() == max(trial.rank() for trial in found.trials)
    assert not any(bank.count for bank in banks_of(model).values())


@pytest.mark.usefixtures("guessing_is_fine")
def test_rephrases_are_asked_and_not_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[Edit] = []
    monkeypatch.setattr("editor_core.slot_editor.SlotEditor.propose", lambda _, edits: taught.extend(edits) or _raise())
    with pytest.raises(Stopped):
        calibrated(tiny(small_tokenizer()), tmp_path)
    assert taught == [replace(fact, rephrases=()) for fact in FACTS]


class Stopped(Exception):
    pass


def _raise() -> None:
    raise Stopped


def test_a_model_of_random_weights_is_refused_for_its_perplexity(tmp_path: Path) -> None:
    with pytest.raises(CannotEditError, match=r"perplexity [\d,]+ of a vocabulary of [\d,]+ is no better than guessing"):
        calibrated(tiny(small_tokenizer()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("guessing_is_fine")
def test_a_model_whose_facts_do_not_hold_is_refused_with_the_best_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.5, 0.75, *[0.25] * 9])
    monkeypatch.setattr(calibration.TrialBench, "trial", lambda _, profile: Trial(profile, next(shares), 1, 1, 0, 1))
    with pytest.raises(CannotEditError, match="75% of 2 facts hold"):
        calibrated(tiny(small_tokenizer()), tmp_path)


def test_a_model_without_a_place_for_slots_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, vocab_size=50)
    with pytest.raises(CannotEditError, match="gated feed-forward"):
        calibrated(AutoModelForCausalLM.from_config(config), tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 50}
    shallow = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes, num_hidden_layers=1))
    with pytest.raises(CannotEditError, match="too few"):
        calibrated(shallow, tmp_path)


def test_profiles_that_do_not_hold_come_last_and_equals_are_told_apart_by_kl() -> None:
    def rank(holding: float, rephrased: float, unchanged: float, kl: float) -> Any:
        return Trial(PROFILE, holding, rephrased, unchanged, kl, 1.0).rank()

    assert rank(0.8, 1, 1, 0) < rank(0.85, 0, 0, 1) < rank(0.9, 0.2, 0.2, 1) < rank(1, 0.2, 0.4, 1) < rank(1, 0.4, 0.2, 0.5)


def test_a_profile_is_read_back_as_it_was_written() -> None:
    assert Profile.from_json(PROFILE.to_json()) == PROFILE


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"subject_blocks": ["a"], "answer_blocks": ["b"]}',
        '{"subject_blocks": ["a"], "answer_blocks": ["b"], "subject_step": 1, "lr": 1}',
        '{"subject_blocks": ["a"], "answer_blocks": "b", "subject_step": 1}',
        '{"subject_blocks": ["a"], "answer_blocks": ["a"], "subject_step": 1}',
        '{"subject_blocks": ["a"], "answer_blocks": ["b"], "subject_step": 0}',
        '{"subject_blocks": ["a"], "answer_blocks": ["b"], "subject_step": NaN}',
        '{"subject_blocks": [], "answer_blocks": ["b"], "subject_step": 1}',
    ],
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Profile.from_json(text)


def test_identities_tell_models_apart() -> None:
    def of(seed: int) -> str:
        model = tiny(small_tokenizer(), seed)
        return identity(model, gated_blocks(model))

    assert of(3) == of(3) != of(4)
