"""The object store: immutable files named by the SHA-256 of their content, in a folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from service.errors import ObjectDamaged


class ObjectStore:
    """Put returns only when the bytes would survive a power cut; get checks them against their name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self._root / name[:2] / name

    def put(self, data: bytes) -> str:
        """Store and return the SHA-256 (hex). Putting the same bytes again mends a damaged copy."""
        name = hashlib.sha256(data).hexdigest()
        target = self.path(name)
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_name(f".{name}.{uuid.uuid4().hex}")
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(target)
        for folder in (target.parent, self._root):
            _sync_folder(folder)
        return name

    def get(self, name: str) -> bytes:
        """Raises ObjectDamaged when the file is missing or its content is not what its name says."""
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            raise ObjectDamaged(f"object {name} is missing from {self._root}") from None
        if hashlib.sha256(data).hexdigest() != name:
            raise ObjectDamaged(f"object {name} in {self._root} has been altered: its SHA-256 is another")
        return data


def _sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
