"""`errata calibrate`: the model that the settings name, tried on the facts shipped for it; what is best becomes its profile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from editor_core.calibration import Calibration, CalibrationSet, calibrate
from editor_core.errors import CannotEditError, EditorError
from editor_core.profile import Profile
from editor_core.texts import Edit
from service.errors import NotCalibrated
from service.settings import FACTS, Settings
from service.worker.editors import profile_path, read_canary, slot_policy
from service.worker.facts import read_facts
from service.worker.resident import load

CALIBRATION_FACTS = FACTS / "calibration.jsonl"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was tried on the model of this name, and where the best profile was written."""

    name: str
    calibration: Calibration
    path: Path


def calibrate_model(settings: Settings, out: Path | None, progress: Callable[[str, float], None]) -> Calibrated:
    """out: where to write the profile; None for where a worker looks for it.

    Raises NotCalibrated, with nothing written, when the model cannot be loaded, or cannot be edited.
    """
    try:
        loaded = load(settings, lambda doing: progress(doing, 0.0))
        canary = read_canary(settings)
        found = calibrate(
            loaded.model,
            loaded.tokenizer,
            lambda profile: slot_policy(loaded, settings, profile),
            CalibrationSet(_calibration_facts(), read_facts(settings), canary.prompts, canary.texts),
            settings.models,
            progress,
        )
    except CannotEditError as error:
        raise NotCalibrated(f"{settings.model} cannot be edited: {error}", code="cannot_be_edited") from error
    except EditorError as error:
        raise NotCalibrated(str(error)) from error
    path = out or profile_path(loaded.model, settings.models)
    _write(found.best.profile, path)
    return Calibrated(loaded.name, found, path)


def _calibration_facts() -> list[Edit]:
    lines = CALIBRATION_FACTS.read_text(encoding="utf-8").splitlines()
    facts = [json.loads(line) for line in lines if line.strip()]
    return [Edit(fact["prompt"], fact["target"], tuple(fact["rephrases"])) for fact in facts]


def _write(profile: Profile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    unfinished.write_text(profile.to_json(), encoding="utf-8")
    unfinished.rename(path)
