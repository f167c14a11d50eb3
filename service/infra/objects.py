"""The object store: immutable files named by the SHA-256 of their content, in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from service.errors import ForeignObjects, ObjectDamaged, ObjectsUnavailable

NAME_LENGTH, FOLDER_LENGTH = 64, 2  # of a SHA-256 in hexadecimal, and of the folder it is in
OWNER = "ledger.json"  # which ledger the folder belongs to


class ObjectStore:
    """Put returns only when the bytes would survive a power cut; get checks them against their name."""

    def __init__(self, root: Path) -> None:
        """Raises ObjectsUnavailable when there is no such folder and none can be made."""
        self._root = root
        with self._there():
            root.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self._root / name[:FOLDER_LENGTH] / name

    def put(self, data: bytes) -> str:
        """Store and return the SHA-256 (hex). Putting the same bytes again mends a damaged copy.

        Raises ObjectsUnavailable when the disk is full, read-only or away; nothing is left behind then.
        """
        name = hashlib.sha256(data).hexdigest()
        target = self.path(name)
        unfinished = target.with_name(f".{name}.{uuid.uuid4().hex}")
        with self._there():
            target.parent.mkdir(exist_ok=True)
            try:
                with unfinished.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(target)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
            for folder in (target.parent, self._root):
                _sync_folder(folder)
        return name

    def names(self) -> Iterator[str]:
        """All that are there."""
        return (each.name for each in self._files() if not each.name.startswith("."))

    def usage(self) -> tuple[int, int]:
        """(files, bytes on disk), unfinished ones too."""
        files = size = 0
        with self._there():
            for _, status in self._found():
                files, size = files + 1, size + status.st_size
        return files, size

    def unneeded(self, needed: Container[str], grace_s: float) -> list[Path]:
        """Files, unfinished ones too, that are not needed and older than the grace.

        What is younger may be about to be committed.
        """
        oldest = time.time() - grace_s
        with self._there():
            return [Path(file.path) for file, status in self._found() if file.name not in needed and status.st_mtime < oldest]

    def remove(self, files: Iterable[Path], grace_s: float) -> tuple[int, int]:
        """Remove these but for those that were put again since they were found. Returns (files removed, their bytes)."""
        removed = freed = 0
        oldest = time.time() - grace_s
        with self._there():
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat()
                    if status.st_mtime < oldest:
                        file.unlink()
                        removed, freed = removed + 1, freed + status.st_size
        return removed, freed

    def claim(self, ledger: str) -> None:
        """Make the folder this ledger's, for good, unless it has an owner. Raises ForeignObjects and ObjectsUnavailable."""
        if self._owner() is None:
            unfinished = self._root / f".{OWNER}.{uuid.uuid4().hex}"
            with self._there():
                try:
                    with unfinished.open("w") as file:
                        json.dump({"ledger": ledger}, file)
                        file.flush()
                        os.fsync(file.fileno())
                    with contextlib.suppress(FileExistsError):  # another process was quicker
                        (self._root / OWNER).hardlink_to(unfinished)
                finally:
                    unfinished.unlink(missing_ok=True)
                _sync_folder(self._root)
        self.require_owner(ledger)

    def require_owner(self, ledger: str) -> None:
        """Raises ForeignObjects when the folder belongs to another ledger, and ObjectsUnavailable."""
        owner = self._owner()
        if owner not in (None, ledger):
            raise ForeignObjects(
                f"the object folder {self._root} belongs to {owner}, and the ledger in this database is {ledger}: one would "
                "remove the other's objects. Set ERRATA_OBJECT_DIR (or ERRATA_DATA_DIR) to a folder of this ledger's own; "
                f"a backup brings its objects along. Only if that other ledger is gone for good: remove {self._root / OWNER}, "
                "and the folder is this ledger's from then on"
            )

    def _owner(self) -> str | None:
        """The ledger that the folder belongs to."""
        with self._there():
            try:
                content = (self._root / OWNER).read_text(errors="replace")
            except FileNotFoundError:
                return None
        try:
            return str(json.loads(content)["ledger"])
        except (ValueError, KeyError, TypeError):
            return f"a ledger that {OWNER} does not name"

    def _found(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        for file in self._files():
            with contextlib.suppress(FileNotFoundError):  # another process put it in its place meanwhile
                yield file, file.stat()

    def _files(self) -> Iterator[os.DirEntry[str]]:
        """A folder is read before its first file is told: whoever goes through them may remove them."""
        for folder in self._root.iterdir():
            if folder.is_dir() and len(folder.name) == FOLDER_LENGTH:
                with os.scandir(folder) as files:
                    found = list(files)
                yield from (each for each in found if len(each.name.lstrip(".")) >= NAME_LENGTH)

    def get(self, name: str) -> bytes:
        """Raises ObjectDamaged when the file is missing or its content is not what its name says, and ObjectsUnavailable."""
        with self._there():
            try:
                data = self.path(name).read_bytes()
            except FileNotFoundError:
                if not self._root.is_dir():
                    raise
                raise ObjectDamaged(f"object {name} is missing from {self._root}", object=name) from None
        if hashlib.sha256(data).hexdigest() != name:
            raise ObjectDamaged(f"object {name} in {self._root} has been altered: its SHA-256 is another", object=name)
        return data

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        """What the file system refuses is nobody's fault who asks."""
        try:
            yield
        except OSError as error:
            raise ObjectsUnavailable(f"object store {self._root}: {error.strerror or error}", retry_after_s=5) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
