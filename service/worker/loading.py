"""Loading the model that the settings name, as they want it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from editor_core.loading import LoadedModel, load_model
from service.settings import Settings


def load(settings: Settings, progress: Callable[[str], None]) -> LoadedModel:
    """Raises ModelLoadError."""
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return load_model(settings.model, cache_dir=settings.models, dtype=dtype, device=settings.device, progress=progress)
