"""Scoped edits taken away: in a folder for transformers with the code that keeps them scoped, as records, or merged.

Weights alone have no scope and no gate. Merged, every update is in force in every text; what that does is measured by asking.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

import editor_core
from editor_core.answers import greedy_answers
from editor_core.export.lora import read_adapter, write_adapter
from editor_core.export.model_folder import size_of, write_model
from editor_core.masters import Masters
from editor_core.scoped import attached
from editor_core.scoped.editor import is_target
from editor_core.scoped.encoder import wheel_folder
from editor_core.scoped.record import Record
from editor_core.texts import Format, rendered, token_ids
from service.domain.edits import NewEdit
from service.errors import NotExported
from service.settings import FACTS, Settings
from service.worker.at_revision import ModelAtRevision, Progress
from service.worker.export.folder import require_space
from service.worker.export.request import THIS_FOLDER, Request, Written

CODE_BYTES = 110_000_000  # the question encoder and this package
ASKED_EDITS, ANSWER_TOKENS, OTHER_TOKENS = 50, 48, 16
ABOUT_SUBJECTS = ("Where is {} located?", "What is {} best known for?", "Who founded or created {}?", "Is {} expensive?")
Question = tuple[str, Format]


def write_edited(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """The unedited model, the records, and the code that puts them in force in transformers.

    Raises NotExported when what was written says something else than the ledger's facts.
    """
    dtype: torch.dtype = getattr(torch, request.dtype)
    records = _records(taken)
    require_space(folder, size_of(taken.loaded.model, dtype) + sum(map(len, records.values())) + CODE_BYTES)
    progress("writing it", 0.0)
    modules = taken.scoped.editor.module_names
    write_model(taken.loaded, dtype, folder)
    taken.scoped.model.to("meta")  # the twin has the same weights
    attached.write_records(records, taken.revision.number, folder / attached.RECORDS)
    shutil.copytree(wheel_folder(), folder / attached.ENCODER)
    package = Path(editor_core.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    progress("loading what was written", 0.0)
    model, tokenizer = attached.load(folder)
    held, formats = 0, taken.scoped.editor.policy.formats
    asked = [each for each in taken.edits if each.holds and all(each.holds.values())][:ASKED_EDITS]
    for done, edit in enumerate(asked):
        progress("asking it", done / len(asked))
        said = {format: _generated(model, tokenizer, edit.edit, format) for format in formats}
        held += all(is_target(said[format], edit.edit.target, format, settings.chat_wording) for format in formats)
    if held < len(asked) and not request.accept_differences:
        raise NotExported(
            f"of {len(asked)} facts that hold only {held} are answered by what was written; it was not kept. "
            "--dtype float32 does not round the weights; --accept-differences keeps it all the same",
            code="not_the_same",
        )
    return Written(
        facts=(
            f"the unedited model in {request.dtype}, and {len(records)} records: scope, gate and update of every edit",
            f"updates in {', '.join(modules)}; needs torch, transformers, safetensors and immutables",
        ),
        verified=f"loaded with its code: {held} of {len(asked)} facts are answered, to their end, in {', '.join(formats)}",
        loading=f"""\
import sys

sys.path.insert(0, "{THIS_FOLDER}")
from editor_core.scoped.attached import load

model, tokenizer = load("{THIS_FOLDER}")  # model.generate(...), one sequence at a time""",
    )


def _records(taken: ModelAtRevision) -> dict[int, bytes]:
    return {edit: taken.scoped.objects.get(entry.record) for edit, entry in taken.scoped.served.state.rows()}


@torch.no_grad()
def _generated(model: Any, tokenizer: Any, edit: NewEdit, format: Format) -> str:
    """The most likely answer, whatever else the model's generation configuration asks for."""
    ids = torch.tensor([token_ids(tokenizer, rendered(tokenizer, edit.prompt, format), format)])
    longest = len(token_ids(tokenizer, edit.target, "plain")) + OTHER_TOKENS
    greedy = {"do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=longest, **greedy)
    return str(tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))


def write_records(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """Every edit's names, gate and update in one file. Raises NotExported when it does not read back as it is in the ledger."""
    records = _records(taken)
    require_space(folder, sum(map(len, records.values())))
    progress("writing the records", 0.0)
    file = folder / attached.RECORDS
    attached.write_records(records, taken.revision.number, file)
    if attached.read_records(file) != records:
        raise NotExported("what was written is not what the ledger has; it was not kept", code="not_the_same")
    return Written(
        facts=(f"{file.name}: {len(records)} records, each with its scope, gate and update, for {taken.loaded.name}",),
        verified="read again: every record has the SHA-256 that the ledger says",
        loading=f"""\
from editor_core.scoped.attached import attach, read_records

attach(model, tokenizer, read_records("{THIS_FOLDER}/{file.name}"))  # a model of your own, loaded with transformers""",
    )


def write_merged(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """Plain weights for transformers."""
    model, tokenizer = taken.loaded.model, taken.loaded.tokenizer
    asked = _Questions(taken)
    before = asked.ask(progress, "asking the model without its edits")
    _merged(taken)
    after = asked.ask(progress, "asking the merged model")
    dtype: torch.dtype = getattr(torch, request.dtype)
    require_space(folder, sum(each.numel() for each in model.parameters()) * dtype.itemsize)
    progress("writing it", 0.0)
    merged: Any = model
    merged.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Written(
        facts=(f"{len(taken.edits)} updates merged into {len(taken.scoped.editor.modules)} weights, {request.dtype}",),
        verified=asked.in_words(before, after),
        loading=f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{THIS_FOLDER}")
tokenizer = AutoTokenizer.from_pretrained("{THIS_FOLDER}")""",
        warnings=(MERGED,),
    )


MERGED = (
    "Scope and gate are not in it: every update is in force in every text, as in published methods. Look at what was measured "
    "before you use it; a service keeps every other answer as it was."
)


def write_merged_lora(
    taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress
) -> Written:
    """A PEFT adapter of the merged updates, of the rank asked for."""
    asked = _Questions(taken)
    before = asked.ask(progress, "asking the model without its edits")
    masters = _merged(taken)
    base = taken.loaded.folder
    absolute = str(Path(base).resolve()) if Path(base).is_dir() else base
    modules = taken.scoped.editor.modules
    adapter = write_adapter(
        folder, modules, masters, request.rank, absolute, lambda share: progress("decomposing the updates", share)
    )
    masters.restore(read_adapter(folder, modules, masters))
    after = asked.ask(progress, "asking with the adapter")
    return Written(
        facts=(f"rank {adapter.rank} in {len(adapter.modules)} weights, relative error {adapter.relative:.2%}",),
        verified=asked.in_words(before, after),
        loading=f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{absolute}")
model = PeftModel.from_pretrained(base, "{THIS_FOLDER}")""",
        warnings=(MERGED,),
    )


def _merged(taken: ModelAtRevision) -> Masters:
    """Add all updates to the weights of the model in memory."""
    modules = taken.scoped.editor.modules
    masters = Masters(modules)
    weights = masters.snapshot()
    for _, entry in taken.scoped.served.state.rows():
        updates = Record.from_bytes(taken.scoped.objects.get(entry.record)).updates
        for module in modules:
            if module.name in updates:
                weights[module.name] += module.as_stored(updates[module.name].dense())
    masters.restore(weights)
    return masters


class _Questions:
    """What an exported model is asked: its edits' prompts, other questions about their subjects, and the canary prompts."""

    def __init__(self, taken: ModelAtRevision) -> None:
        self._taken = taken
        self._formats: tuple[Format, ...] = taken.scoped.editor.policy.formats
        edits = taken.edits[:ASKED_EDITS]
        self._targets = [each.edit.target for each in edits for _ in self._formats]
        self._own = [(each.edit.prompt, format) for each in edits for format in self._formats]
        subjects = [(each.scope or (each.edit.prompt,))[0] for each in edits]
        self._subjects: list[Question] = [(text.format(name), "chat") for name in subjects for text in ABOUT_SUBJECTS]
        lines = (FACTS / "canary.jsonl").read_text(encoding="utf-8").splitlines()
        prompts = [json.loads(line).get("prompt") for line in lines if line.strip()]
        self._others = [(prompt, format) for prompt in prompts if prompt for format in self._formats]

    def ask(self, progress: Progress, doing: str) -> tuple[list[str], list[str], list[str]]:
        """What is said now."""
        progress(doing, 0.0)
        model, tokenizer = self._taken.loaded.model, self._taken.loaded.tokenizer
        kinds = ((self._own, ANSWER_TOKENS), (self._subjects, OTHER_TOKENS), (self._others, OTHER_TOKENS))
        found = [greedy_answers(model, tokenizer, questions, tokens) if questions else [] for questions, tokens in kinds]
        return found[0], found[1], found[2]

    def in_words(self, before: tuple[list[str], list[str], list[str]], after: tuple[list[str], list[str], list[str]]) -> str:
        held = sum(
            is_target(said, target, format)
            for said, target, (_, format) in zip(after[0], self._targets, self._own, strict=True)
        )
        same = [sum(a == b for a, b in zip(one, other, strict=True)) for one, other in zip(before[1:], after[1:], strict=True)]
        return (
            f"asked after merging: {held} of {len(self._own)} answers to the edits' prompts are the target and nothing more; "
            f"{same[0]} of {len(self._subjects)} other questions about their subjects and {same[1]} of {len(self._others)} "
            "unrelated prompts are answered as before"
        )
