"""A folder for `AutoModelForCausalLM.from_pretrained`."""

from __future__ import annotations

from pathlib import Path

import torch

from editor_core.export.model_folder import plan, reopened, write_model
from service.settings import Settings
from service.worker.at_revision import ModelAtRevision, Progress
from service.worker.export.asking import ask_again, ask_taken, in_words, require
from service.worker.export.folder import require_space
from service.worker.export.request import THIS_FOLDER, Request, Written

NEEDS_TRUST = (
    "The model's code is in this folder (modeling_errata.py; it is short, read it) and runs only with trust_remote_code=True. "
    "Without it transformers refuses the folder, rather than load the unedited model."
)


def write_hf(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """The model in memory is used up. Raises ExportError, or NotExported when what was written answers differently."""
    dtype: torch.dtype = getattr(torch, request.dtype)
    planned = plan(taken.loaded.model, dtype, request.custom_code)
    require_space(folder, planned.size)
    asked = ask_taken(taken, settings, progress)
    progress("writing it", 0.0)
    write_model(taken.loaded, planned, dtype, folder)
    progress("loading what was written", 0.0)
    model, tokenizer = reopened(folder, planned.form)
    verdict = ask_again(asked, model, tokenizer, progress)
    rounded = {request.dtype, settings.dtype} != {"float32"}  # logits differ then, answers need not
    is_fine = verdict.comparison.all_the_same if rounded else verdict.comparison.equal
    accepted = require(is_fine, verdict, request, _remedy(request, settings) if rounded else "")
    return Written(
        facts=(f"weights in {request.dtype} (the worker's model is {settings.dtype})", planned.words),
        verified=in_words("loaded with from_pretrained", verdict, taken),
        loading=_loading(planned.form == "code"),
        warnings=(*accepted, NEEDS_TRUST) if planned.form == "code" else accepted,
    )


def _remedy(request: Request, settings: Settings) -> str:
    """What answers the same, where weights in another dtype do not."""
    code = "" if settings.dtype == "float32" else " --custom-code"  # which keeps slots out of that dtype
    return f"The worker's model is {settings.dtype}: --dtype {settings.dtype}{code} does not round it once more. "


def _loading(has_code: bool) -> str:
    trust = ", trust_remote_code=True" if has_code else ""
    return f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{THIS_FOLDER}"{trust})
tokenizer = AutoTokenizer.from_pretrained("{THIS_FOLDER}"{trust})"""
