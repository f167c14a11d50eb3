"""One export from beginning to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from editor_core.errors import EditorError
from service.errors import NotExported
from service.settings import Settings
from service.worker.at_revision import ModelAtRevision, Progress, model_at
from service.worker.export.changes import write_changed
from service.worker.export.folder import in_megabytes, readme, require_new, size_of, unfinished, write_notes
from service.worker.export.hf import write_hf
from service.worker.export.lora import write_lora
from service.worker.export.request import THIS_FOLDER, Format, Request, Written
from service.worker.export.scoped import write_edited, write_merged, write_merged_lora, write_records

Writer = Callable[[ModelAtRevision, Settings, Request, Path, Progress], Written]
WRITERS: dict[Format, Writer] = {"hf": write_hf, "safetensors": write_changed, "merged": write_hf, "lora": write_lora}
SCOPED_WRITERS: dict[Format, Writer] = {
    "hf": write_edited,
    "safetensors": write_records,
    "merged": write_merged,
    "lora": write_merged_lora,
}


@dataclass(frozen=True, slots=True)
class Exported:
    """Where a model was written, of which revision, and what its writer says about it."""

    out: Path
    title: str
    written: Written

    @property
    def loading(self) -> str:
        """Python that loads it from where it is now."""
        return self.written.loading.replace(THIS_FOLDER, str(self.out))


def export_model(settings: Settings, request: Request, progress: Progress) -> Exported:
    """Follow the ledger to the revision, write the model, compare, and give the folder its name.

    Raises NotExported, with nothing left behind, and everything that `model_at` raises.
    """
    require_new(request.out)
    on_cpu = settings.model_copy(update={"device": "cpu"})
    taken = asyncio.run(model_at(on_cpu, request.revision, progress))
    try:
        with unfinished(request.out) as folder:
            writers = SCOPED_WRITERS if settings.edit_mode == "scoped" else WRITERS
            written = writers[request.format](taken, on_cpu, request, folder, progress)
            size = in_megabytes(size_of(folder))
            title = f"{taken.loaded.name}, revision {taken.revision.number}, {len(taken.edits)} edits"
            write_notes(folder, readme(title, taken.revision, written), taken.edits)
    except EditorError as error:
        raise NotExported(str(error)) from error
    return Exported(request.out, f"{title}, format {request.format}, {size}", written)
