"""A PEFT adapter of a given rank, with its error."""

from __future__ import annotations

from pathlib import Path

from editor_core.export.lora import Adapter, read_adapter, write_adapter
from service.settings import Settings
from service.worker.at_revision import ModelAtRevision, Progress
from service.worker.export.asking import ask_again, ask_taken, in_words, require
from service.worker.export.folder import require_space
from service.worker.export.request import THIS_FOLDER, Request, Written

EXACT = 1e-5  # an adapter no further off than this is to answer the same
APPROXIMATE = "This is an approximation: look at its error, and at how many answers are the same, before you use it."


def write_lora(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """Raises NotExported when an adapter that should be exact answers differently."""
    editor = taken.resident.editor
    require_space(folder, sum(sum(module.shape) * request.rank * 4 for module in editor.modules))
    asked = ask_taken(taken, settings, progress)
    base = _absolute(taken.loaded.folder)
    adapter = write_adapter(
        folder, editor.modules, editor.masters, request.rank, base, lambda share: progress("decomposing the changes", share)
    )
    editor.masters.restore(read_adapter(folder, editor.modules, editor.masters))
    verdict = ask_again(asked, taken.loaded.model, taken.loaded.tokenizer, progress)
    approximate = adapter.relative > EXACT
    accepted = require(approximate or verdict.comparison.all_the_same, verdict, request)
    return Written(
        facts=_errors(adapter),
        verified=in_words("put on the base model", verdict, taken),
        loading=_loading(base),
        warnings=(APPROXIMATE,) if approximate else accepted,
    )


def _absolute(base: str) -> str:
    """A folder in full; a hub's id as it is."""
    return str(Path(base).resolve()) if Path(base).is_dir() else base


def _errors(adapter: Adapter) -> tuple[str, ...]:
    total = f"rank {adapter.rank} in {len(adapter.modules)} weights, relative error (Frobenius) {adapter.relative:.2%} in total"
    return (total, *(f"{each.name}: {each.relative:.2%} of a change of norm {each.norm:.3g}" for each in adapter.modules))


def _loading(base: str) -> str:
    return f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{THIS_FOLDER}")"""
