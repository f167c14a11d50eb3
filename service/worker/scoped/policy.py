"""How a model's edits are taught and gated: what the settings say, over what calibration found, over what is usual."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editor_core.errors import ModelLoadError
from editor_core.loading import LoadedModel
from editor_core.scoped.blocks import default_blocks, feed_forward_outputs, identity
from editor_core.scoped.editor import ScopedPolicy
from editor_core.scoped.update import UpdatePolicy
from editor_core.texts import Format, supported_formats
from service.settings import Settings

REMEDY = "run `errata calibrate`, or set ERRATA_PROFILE_FILE to a profile of this model"


@dataclass(frozen=True, slots=True)
class Profile:
    """What calibration found for one model: the modules that are updated, and the size of a step."""

    update_blocks: tuple[str, ...]
    update_step: float

    def to_json(self) -> str:
        return json.dumps({"update_blocks": self.update_blocks, "update_step": self.update_step}, indent=2) + "\n"


def profile_path(model: Any, folder: Path) -> Path:
    """Where calibration writes this model's profile and a worker looks for it."""
    return folder / f"profile-{identity(model)}.json"


def profile_of(loaded: LoadedModel, settings: Settings) -> Profile:
    """Raises ModelLoadError when it cannot be read, names modules that the model lacks, or the model has none to update."""
    known = feed_forward_outputs(loaded.model)
    if not known:
        raise ModelLoadError(f"{loaded.name} has no feed-forward outputs that could be updated; set ERRATA_UPDATE_BLOCKS")
    found = Profile(default_blocks(known), UpdatePolicy().step)
    path = settings.profile_file or profile_path(loaded.model, settings.models)
    if settings.profile_file is not None or path.is_file():
        found = _read(path)
    if lacking := [each for each in found.update_blocks if each not in dict(loaded.model.named_modules())]:
        raise ModelLoadError(f"the profile {path} names modules that {loaded.name} lacks: {', '.join(lacking)}; {REMEDY}")
    return found


def _read(path: Path) -> Profile:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Profile(tuple(map(str, content["update_blocks"])), float(content["update_step"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"the profile {path} cannot be used: {error}; {REMEDY}") from error


def update_blocks(loaded: LoadedModel, settings: Settings) -> tuple[str, ...]:
    """Module names, in the model's order. Raises ModelLoadError."""
    wanted: Sequence[str] = settings.update_blocks or profile_of(loaded, settings).update_blocks
    order = [name for name, _ in loaded.model.named_modules()]
    if lacking := [each for each in wanted if each not in order]:
        raise ModelLoadError(f"ERRATA_UPDATE_BLOCKS names modules that {loaded.name} lacks: {', '.join(lacking)}")
    return tuple(sorted(wanted, key=order.index))


def scoped_policy(loaded: LoadedModel, settings: Settings) -> ScopedPolicy:
    """Raises ModelLoadError for formats that the model does not have."""
    update = UpdatePolicy(
        step=settings.update_step or profile_of(loaded, settings).update_step,
        confidence=settings.update_confidence,
        passes=settings.edit_passes,
    )
    return ScopedPolicy(
        formats=_formats(loaded, settings),
        chat_wording=settings.chat_wording,
        threshold=settings.gate_threshold,
        update=update,
        requires_holding=settings.require_holding,
    )


def _formats(loaded: LoadedModel, settings: Settings) -> tuple[Format, ...]:
    formats = supported_formats(loaded.tokenizer)
    wanted = settings.edit_formats or formats
    if not set(wanted) <= set(formats):
        raise ModelLoadError(f"ERRATA_EDIT_FORMATS asks for {', '.join(wanted)}; this model has {', '.join(formats)}")
    return tuple(each for each in formats if each in wanted)
