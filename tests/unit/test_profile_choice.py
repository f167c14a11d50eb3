"""Which blocks a worker edits: what the settings say, else what calibration found, else what is usual at these depths."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from editor_core.calibration import Calibration
from editor_core.errors import CannotEditError, ModelLoadError
from editor_core.loading import LoadedModel
from editor_core.profile import Profile
from editor_core.slot_defaults import default_profile, gated_blocks
from editor_core.slot_policy import SlotPolicy
from editor_core.trial import Trial
from service.cli.main import app
from service.settings import Settings
from service.worker import calibration
from service.worker.editors import build_editor, profile_path
from tests.core.test_slot_editor import small_tokenizer, tiny

BLOCKS = tuple(f"model.layers.{number}.mlp" for number in range(4))
FOUND = Profile(BLOCKS[1:2], BLOCKS[3:], 0.3)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    tokenizer = small_tokenizer()
    return LoadedModel(tiny(tokenizer), tokenizer, "tiny", "")


def policy(loaded: LoadedModel, folder: Path, **settings: Any) -> SlotPolicy:
    built = build_editor(loaded, Settings(model_cache_dir=folder, **settings)).policy
    assert isinstance(built, SlotPolicy)
    return built


def placed(policy: SlotPolicy) -> Profile:
    return Profile(policy.subject_blocks, policy.answer_blocks, policy.subject_step)


def test_without_a_profile_blocks_are_chosen_by_depth(loaded: LoadedModel, tmp_path: Path) -> None:
    assert placed(policy(loaded, tmp_path)) == default_profile(gated_blocks(loaded.model))


def test_the_models_own_profile_is_found_and_settings_go_before_it(loaded: LoadedModel, tmp_path: Path) -> None:
    profile_path(loaded.model, tmp_path).write_text(FOUND.to_json())
    assert placed(policy(loaded, tmp_path)) == FOUND
    assert placed(policy(loaded, tmp_path, subject_step=0.9)) == Profile(BLOCKS[1:2], BLOCKS[3:], 0.9)
    given = {"subject_blocks": BLOCKS[:1], "answer_blocks": BLOCKS[2:3]}
    assert placed(policy(loaded, tmp_path, **given)) == Profile(BLOCKS[:1], BLOCKS[2:3], 0.3)


def test_a_profile_that_is_named_goes_before_the_models_own(loaded: LoadedModel, tmp_path: Path) -> None:
    profile_path(loaded.model, tmp_path).write_text(FOUND.to_json())
    named = tmp_path / "mine.json"
    named.write_text(Profile(BLOCKS[:2], BLOCKS[2:3], 0.5).to_json())
    assert policy(loaded, tmp_path, profile_file=named).subject_step == 0.5


@pytest.mark.parametrize("text", [Profile(("model.layers.9.mlp",), BLOCKS[3:], 0.5).to_json(), "{}", None])
def test_a_profile_that_does_not_fit_is_refused_with_what_to_do(loaded: LoadedModel, tmp_path: Path, text: str | None) -> None:
    named = tmp_path / "other.json"
    if text is not None:
        named.write_text(text)
    with pytest.raises(ModelLoadError, match="errata calibrate"):
        policy(loaded, tmp_path, profile_file=named)


def run(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel, outcome: Any) -> Any:
    """`errata calibrate` with the search replaced by its outcome."""

    def calibrate(*_: Any) -> Calibration:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setenv("ERRATA_DATA_DIR", str(folder))
    monkeypatch.setattr(calibration, "calibrate", calibrate)
    monkeypatch.setattr(calibration, "load", lambda *_: loaded)
    return CliRunner().invoke(app, ["calibrate", *arguments])


def test_the_command_writes_the_best_profile_where_a_worker_finds_it(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = (Trial(FOUND, 1.0, 0.75, 1.0, 0.01, 1.001), Trial(default_profile(BLOCKS), 0.5, 0.75, 1.0, 0.01, None))
    result = run([], tmp_path, monkeypatch, loaded, Calibration(trials, trials[0]))
    assert result.exit_code == 0, result.output
    assert "75%" in result.output
    assert placed(policy(loaded, tmp_path / "models")) == FOUND


def test_the_command_writes_the_profile_where_it_is_told_to(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = Trial(FOUND, 1.0, 0.75, 1.0, 0.01, 1.001)
    result = run(["--out", str(tmp_path / "p.json")], tmp_path, monkeypatch, loaded, Calibration((best,), best))
    assert "ERRATA_PROFILE_FILE" in result.output
    assert Profile.from_json((tmp_path / "p.json").read_text()) == FOUND
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_model_that_cannot_be_edited_gets_no_profile_and_the_command_fails_with_the_reason(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(["--model", "x"], tmp_path, monkeypatch, loaded, CannotEditError("it does not model text"))
    assert result.exit_code == 1
    assert "x cannot be edited: it does not model text" in result.output
    assert not list(tmp_path.iterdir())


def test_the_calibration_facts_are_twelve_with_two_rephrases_each() -> None:
    facts = calibration._calibration_facts()
    assert len({fact.prompt for fact in facts}) == 12
    assert all(len(fact.rephrases) == 2 for fact in facts)
