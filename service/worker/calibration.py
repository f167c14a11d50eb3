"""`errata calibrate`: the model that the settings name, tried on the facts shipped for it; what is best becomes its profile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from editor_core.errors import CannotEditError, EditorError
from editor_core.scoped.calibration import Trial, calibrate
from editor_core.scoped.editor import ScopedPolicy
from editor_core.texts import Edit
from service.errors import NotCalibrated
from service.settings import FACTS, Settings
from service.worker.loading import load
from service.worker.scoped.policy import Profile, profile_path, scoped_policy

CALIBRATION_FACTS, TEXTS = FACTS / "calibration.jsonl", FACTS / "canary.jsonl"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was tried on the model of this name, the best first, and where that was written."""

    name: str
    trials: list[Trial]
    path: Path


def calibrate_model(settings: Settings, out: Path | None, progress: Callable[[str, float], None]) -> Calibrated:
    """out: where to write the profile; None for where a worker looks for it.

    Raises NotCalibrated, with nothing written, when the model cannot be loaded, or cannot be edited.
    """
    try:
        loaded = load(settings, lambda doing: progress(doing, 0.0))
        usual = scoped_policy(loaded, settings)

        def policy(step: float) -> ScopedPolicy:
            return replace(usual, update=replace(usual.update, step=step))

        trials = calibrate(loaded.model, loaded.tokenizer, _facts(), _texts(), policy, progress)
    except CannotEditError as error:
        raise NotCalibrated(f"{settings.model} cannot be edited: {error}", code="cannot_be_edited") from error
    except EditorError as error:
        raise NotCalibrated(str(error)) from error
    path = out or profile_path(loaded.model, settings.models)
    _write(Profile(trials[0].blocks, trials[0].step), path)
    return Calibrated(loaded.name, trials, path)


def _facts() -> list[Edit]:
    return [Edit(fact["prompt"], fact["target"]) for fact in _lines(CALIBRATION_FACTS)]


def _texts() -> list[str]:
    return [line["text"] for line in _lines(TEXTS) if "text" in line]


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _write(profile: Profile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    unfinished.write_text(profile.to_json(), encoding="utf-8")
    unfinished.rename(path)
