"""The editor that the settings ask for: memory slots, several passes over whole matrices, or the published method as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from editor_core import Editor, EditorConfig
from editor_core.errors import ConfigError, ModelLoadError
from editor_core.guard import Canary, Guard
from editor_core.loading import LoadedModel
from editor_core.presets import PRESETS, preset_for
from editor_core.profile import Profile, identity
from editor_core.slot_defaults import bank_editor, default_profile, gated_blocks
from editor_core.slot_editor import SlotEditor
from editor_core.slot_policy import SlotPolicy
from editor_core.text_editor import EditPolicy, FactEditor, TextEditor
from editor_core.texts import Format, supported_formats
from service.domain.revisions import content_hash
from service.settings import Settings
from service.worker.facts import decoys


def build_editor(loaded: LoadedModel, settings: Settings) -> FactEditor:
    """Raises ModelLoadError when the settings and the model do not go together."""
    if settings.edit_mode == "slots":
        return _guarded(_slot_editor(loaded, settings), settings)
    editor = Editor(loaded.model, _matrix_config(loaded, settings))
    if settings.edit_mode == "paper":
        return TextEditor(editor, loaded.tokenizer, EditPolicy(formats=("plain",), passes=1))
    policy = EditPolicy(
        _formats(loaded, settings),
        settings.edit_passes,
        requires_holding=settings.require_holding,
        chat_wording=settings.chat_wording,
    )
    return _guarded(TextEditor(editor, loaded.tokenizer, policy), settings)


def _guarded(text_editor: FactEditor, settings: Settings) -> FactEditor:
    if settings.guard:
        text_editor.guard = Guard(text_editor.editor, text_editor.tokenizer, text_editor.formats, read_canary(settings))
    return text_editor


def read_canary(settings: Settings) -> Canary:
    """JSON lines with a prompt or a text each, under the settings' limits."""
    lines = [json.loads(line) for line in settings.canary_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return Canary(
        [each["prompt"] for each in lines if "prompt" in each],
        [each["text"] for each in lines if "text" in each],
        settings.max_canary_kl_nats,
        settings.max_canary_perplexity_change,
    )


def _slot_editor(loaded: LoadedModel, settings: Settings) -> SlotEditor:
    blocks = gated_blocks(loaded.model)
    if not blocks:
        raise ModelLoadError(f"{loaded.name} has no gated feed-forward blocks to hold slots; set ERRATA_EDIT_MODE=matrix")
    policy = slot_policy(loaded, settings, _profile(loaded, blocks, settings))
    editor = bank_editor(loaded.model, policy.blocks, settings.max_update_norm)
    return SlotEditor(editor, loaded.tokenizer, policy, settings.models, decoys(settings))


def slot_policy(loaded: LoadedModel, settings: Settings, profile: Profile) -> SlotPolicy:
    """The profile, and everything else as the settings say. Raises ModelLoadError for formats the model does not have."""
    return SlotPolicy(
        formats=_formats(loaded, settings),
        subject_blocks=profile.subject_blocks,
        answer_blocks=profile.answer_blocks,
        subject_passes=settings.subject_passes,
        answer_passes=settings.edit_passes,
        rounds=settings.edit_rounds,
        subject_step=profile.subject_step,
        chat_wording=settings.chat_wording,
        requires_holding=settings.require_holding,
        **_given(contexts=settings.contexts, confidence=settings.confidence),
    )


def _given(**settings: Any) -> dict[str, Any]:
    """Those that are set: the policy knows the defaults of the others."""
    return {name: value for name, value in settings.items() if value is not None}


def profile_path(model: nn.Module, folder: Path) -> Path:
    """Where calibration writes this model's profile and a worker looks for it. The model has gated blocks."""
    return folder / f"profile-{identity(model, gated_blocks(model))}.json"


def _profile(loaded: LoadedModel, blocks: Sequence[str], settings: Settings) -> Profile:
    """What the settings give, over what calibration found, over what is usual at these depths."""
    known = _calibrated(loaded, blocks, settings) or default_profile(blocks)
    return Profile(
        settings.subject_blocks or known.subject_blocks,
        settings.answer_blocks or known.answer_blocks,
        settings.subject_step or known.subject_step,
    )


def _calibrated(loaded: LoadedModel, blocks: Sequence[str], settings: Settings) -> Profile | None:
    """The profile that the settings name, or the one written for this model, or None.

    Raises ModelLoadError when it cannot be read, or is another model's.
    """
    path = settings.profile_file or profile_path(loaded.model, settings.models)
    if settings.profile_file is None and not path.is_file():
        return None
    remedy = "run `errata calibrate`, or set ERRATA_PROFILE_FILE to a profile of this model"
    try:
        profile = Profile.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ModelLoadError(f"the profile {path} cannot be used: {error}; {remedy}") from error
    if lacking := [each for each in profile.blocks if each not in blocks]:
        raise ModelLoadError(f"the profile {path} names blocks that {loaded.name} lacks: {', '.join(lacking)}; {remedy}")
    return profile


def _formats(loaded: LoadedModel, settings: Settings) -> tuple[Format, ...]:
    formats = supported_formats(loaded.tokenizer)
    wanted = settings.edit_formats or formats
    if not set(wanted) <= set(formats):
        raise ModelLoadError(f"ERRATA_EDIT_FORMATS asks for {', '.join(wanted)}; this model has {', '.join(formats)}")
    return tuple(each for each in formats if each in wanted)


def _matrix_config(loaded: LoadedModel, settings: Settings) -> EditorConfig:
    """The model's preset with the settings over it. Raises ModelLoadError for a model without either."""
    known = preset_for(loaded.model.config)
    base = known[1] if known else None
    modules = settings.edit_modules or (base.modules if base else ())
    lr = settings.edit_lr or (base.lr if base else None)
    if not modules or lr is None:
        raise ModelLoadError(
            f"no preset for {loaded.name} (there are presets for {', '.join(PRESETS)}); "
            "set ERRATA_EDIT_MODULES and ERRATA_EDIT_LR"
        )
    return EditorConfig(
        modules=modules,
        lr=lr,
        algorithm=settings.algorithm,
        ridge=settings.edit_ridge,
        loss_tokens=base.loss_tokens if base and settings.edit_mode == "matrix" else None,
        max_update_norm=settings.max_update_norm,
    )


def config_hash(name: str, text_editor: FactEditor, settings: Settings) -> str:
    """Tells apart revisions made under different settings."""
    config = text_editor.editor.config
    known: dict[str, Any] = {
        "model": name,
        "dtype": settings.dtype,
        "mode": settings.edit_mode,
        "algorithm": config.algorithm,
        "modules": list(config.modules),
        "lr": config.lr,
        "ridge": config.alpha,
        "loss_tokens": config.loss_tokens,
        "policy": repr(text_editor.policy),
    }
    return content_hash(known)
