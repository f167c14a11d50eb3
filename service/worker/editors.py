"""The editor of paper mode: the published method on whole matrices, one pass over a batch, in plain format."""

from __future__ import annotations

from typing import Any

from editor_core import Editor, EditorConfig
from editor_core.errors import ModelLoadError
from editor_core.loading import LoadedModel
from editor_core.presets import PRESETS, preset_for
from editor_core.text_editor import TextEditor
from service.domain.revisions import content_hash
from service.settings import Settings
from service.worker.facts import read_canary

__all__ = ["build_editor", "config_hash", "read_canary"]


def build_editor(loaded: LoadedModel, settings: Settings) -> TextEditor:
    """Raises ModelLoadError when the settings and the model do not go together."""
    return TextEditor(Editor(loaded.model, _config(loaded, settings)), loaded.tokenizer)


def _config(loaded: LoadedModel, settings: Settings) -> EditorConfig:
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
        max_update_norm=settings.max_update_norm,
    )


def config_hash(name: str, text_editor: TextEditor, settings: Settings) -> str:
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
        "policy": repr(text_editor.policy),
    }
    return content_hash(known)
