"""The object store: immutable files named by the SHA-256 of their content, in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Container, Iterator
from pathlib import Path

from service.errors import ObjectDamaged, ObjectsUnavailable

NAME_LENGTH, FOLDER_LENGTH = 64, 2  # of a SHA-256 in hexadecimal, and of the folder it is in


class ObjectStore:
    """Put returns only when the bytes would survive a power cut; get checks them against their name."""

    def __init__(self, root: Path) -> None:
        self._root = root
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

    def prune(self, needed: Container[str], grace_s: float) -> tuple[int, int]:
        """Remove what is not needed and older than the grace: what is younger may be about to be committed.

        Returns (files removed, their bytes).
        """
        removed = freed = 0
        oldest = time.time() - grace_s
        with self._there():
            for file, status in self._found():
                if file.name not in needed and status.st_mtime < oldest:
                    Path(file.path).unlink(missing_ok=True)
                    removed, freed = removed + 1, freed + status.st_size
        return removed, freed

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
                raise ObjectDamaged(f"object {name} is missing from {self._root}") from None
        if hashlib.sha256(data).hexdigest() != name:
            raise ObjectDamaged(f"object {name} in {self._root} has been altered: its SHA-256 is another")
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
