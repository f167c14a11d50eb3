"""The folder that an export becomes: never over another, complete under its name or not there, and saying what it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.domain.edits import EditRecord
from service.domain.revisions import Revision
from service.errors import NotExported
from service.worker.export.request import Written

NOTES = ("README.md", "edits.jsonl")
ROOM = 64 * 1024 * 1024  # beside the weights: tokenizer, notes, and a disk that is not full to the brim


def require_new(out: Path) -> None:
    """Raises NotExported when something is there already."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        what = "a folder that is not empty" if out.is_dir() else "not a folder"
        raise NotExported(f"{out} is {what}; nothing is ever written over, name another", code="out_exists")


def require_space(folder: Path, size: int) -> None:
    """Raises NotExported when `size` bytes and some room do not fit beside the folder."""
    free = shutil.disk_usage(folder).free
    if free < size + ROOM:
        raise NotExported(
            f"this needs {in_megabytes(size + ROOM)} beside {folder}, and {in_megabytes(free)} are free", code="no_space"
        )


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `out` at the end of the block; if it ends with an error, nothing is left of it.

    Raises NotExported when the folder cannot be written, or `out` has come into being meanwhile.
    """
    folder = out.with_name(f"{out.name}.unfinished-{os.getpid()}")
    try:
        folder.mkdir(parents=True)
        yield folder
        require_new(out)
        folder.rename(out)
    except OSError as error:
        raise NotExported(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def readme(title: str, revision: Revision, written: Written) -> str:
    """What the folder says of itself."""
    warnings = "".join(f"**{each}**\n\n" for each in written.warnings)
    facts = "\n".join(f"- {each}" for each in (*written.facts, f"Verified: {written.verified}."))
    return f"""\
# {title}

Written by `errata export`.

{warnings}{facts}
- Revision {revision.number}, committed {revision.created_at:%Y-%m-%d %H:%M %Z}.
- Fingerprint `{revision.fingerprint}`, row hash `{revision.row_hash}`.
- The facts that are in it: `edits.jsonl`.

```python
{written.loading}
```
"""


def write_notes(folder: Path, readme: str, edits: Sequence[EditRecord]) -> None:
    """README.md, and edits.jsonl with the facts that are in the weights."""
    readme_name, edits_name = NOTES
    (folder / readme_name).write_text(readme, encoding="utf-8")
    lines = [json.dumps(_edit(each), ensure_ascii=False) + "\n" for each in edits]
    (folder / edits_name).write_text("".join(lines), encoding="utf-8")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _edit(record: EditRecord) -> dict[str, object]:
    return {"id": record.id, "revision": record.revision, **record.edit.content(), "holds": record.holds}
