"""The changed tensors alone."""

from __future__ import annotations

from pathlib import Path

from editor_core.export.changes import read_changes, write_changes
from service.errors import NotExported
from service.settings import Settings
from service.worker.at_revision import ModelAtRevision, Progress
from service.worker.export.folder import require_space
from service.worker.export.request import THIS_FOLDER, Request, Written

FILE = "changed.safetensors"


def write_changed(taken: ModelAtRevision, settings: Settings, request: Request, folder: Path, progress: Progress) -> Written:
    """Raises NotExported when what was written has another fingerprint than the revision."""
    editor, revision = taken.resident.editor, taken.revision
    require_space(folder, sum(editor.masters[module.name].numel() * 4 for module in editor.modules))
    progress("writing the changed tensors", 0.0)
    metadata = {
        "format": "errata",
        "base_model": taken.loaded.name,
        "mode": settings.edit_mode,
        "revision": str(revision.number),
        "fingerprint": revision.fingerprint,
        "row_hash": revision.row_hash,
    }
    write_changes(folder / FILE, editor.modules, editor.masters, metadata)
    editor.masters.restore_base()
    editor.masters.restore(read_changes(folder / FILE, editor.modules))
    if editor.masters.fingerprint() != revision.fingerprint:
        raise NotExported("what was written does not have the revision's fingerprint; it was not kept", code="not_the_same")
    return Written(
        facts=(f"{FILE}: {len(editor.modules)} edited weights, float32, for the base model {taken.loaded.name}",),
        verified=f"read again into the base model: fingerprint {revision.fingerprint[:16]}… as in the ledger, bit for bit",
        loading=f"""\
from safetensors.torch import load_file

model.load_state_dict(load_file("{THIS_FOLDER}/{FILE}"), strict=False)  # model: the base model, in float32""",
    )
