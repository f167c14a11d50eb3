"""A folder for `AutoModelForCausalLM.from_pretrained`."""

from __future__ import annotations

from pathlib import Path

import torch

from editor_core.export.model_folder import reopened, size_of, write_model
from service.settings import Settings
from service.worker.at_revision import ModelAtRevision, Progress
from service.worker.export.asking import ask_again, ask_taken, in_words, require
from service.worker.export.folder import require_space
from service.worker.export.request import THIS_FOLDER, Request, Written


def write_hf(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """The model in memory is used up. Raises ExportError, or NotExported when what was written answers differently."""
    dtype: torch.dtype = getattr(torch, request.dtype)
    require_space(folder, size_of(taken.loaded.model, dtype))
    asked = ask_taken(taken, settings, progress)
    progress("writing it", 0.0)
    write_model(taken.loaded, dtype, folder)
    progress("loading what was written", 0.0)
    model, tokenizer = reopened(folder)
    verdict = ask_again(asked, model, tokenizer, progress)
    rounded = {request.dtype, settings.dtype} != {"float32"}  # logits differ then, answers need not
    is_fine = verdict.comparison.all_the_same if rounded else verdict.comparison.equal
    accepted = require(is_fine, verdict, request, _remedy(request, settings) if rounded else "")
    return Written(
        facts=(f"weights in {request.dtype} (the worker's model is {settings.dtype})",),
        verified=in_words("loaded with from_pretrained", verdict, taken),
        loading=LOADING,
        warnings=accepted,
    )


def _remedy(request: Request, settings: Settings) -> str:
    """What answers the same, where weights in another dtype do not."""
    return f"The worker's model is {settings.dtype}: --dtype {settings.dtype} does not round it once more. "


LOADING = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{THIS_FOLDER}")
tokenizer = AutoTokenizer.from_pretrained("{THIS_FOLDER}")"""
