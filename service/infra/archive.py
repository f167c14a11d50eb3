"""A backup's file: a tar of a manifest, the objects and the tables. Nothing in it is believed before its hash was compared."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from service.errors import BackupDamaged

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table's rows: their columns, how many there are, and the SHA-256 of COPY's text."""

    columns: tuple[str, ...]
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup. objects: their names, which are their hashes."""

    schema: str
    head: int | None
    row_hash: str | None
    created_at: str
    tables: Mapping[str, TableEntry]
    objects: tuple[str, ...]

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises BackupDamaged."""
        try:
            content: dict[str, Any] = json.loads(data)
            if content.pop("format") != FORMAT:
                raise BackupDamaged(f"this backup has another format than {FORMAT}: it was made by another version")
            tables = {
                name: TableEntry(tuple(each["columns"]), each["rows"], each["sha256"])
                for name, each in content.pop("tables").items()
            }
            return cls(tables=tables, objects=tuple(content.pop("objects")), **content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupDamaged(f"the backup's manifest cannot be read: {error}") from error


class ArchiveWriter:
    """Writes beside the file and puts it in its place at the end, so that there is never half a backup under its name."""

    def __init__(self, file: Path) -> None:
        self._file, self._unfinished = file, file.with_name(f".{file.name}.unfinished")
        self._tar = tarfile.open(self._unfinished, "w")  # noqa: SIM115 closed by finish or give_up

    def add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def add_file(self, name: str, source: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size = size
        source.seek(0)
        self._tar.addfile(member, source)

    def finish(self) -> int:
        """Durable under its name; returns its size in bytes."""
        self._tar.close()
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        self._unfinished.rename(self._file)
        return self._file.stat().st_size

    def give_up(self) -> None:
        self._tar.close()
        self._unfinished.unlink(missing_ok=True)


class ArchiveReader:
    """Reads members by name; only those that the manifest names are ever looked at."""

    def __init__(self, file: Path) -> None:
        """Raises BackupDamaged when it is no backup."""
        try:
            self._tar = tarfile.open(file, "r:")  # noqa: SIM115 closed by close
            self._members = {member.name: member for member in self._tar.getmembers() if member.isreg()}
        except (tarfile.TarError, OSError) as error:
            raise BackupDamaged(f"{file} cannot be read as a backup: {error}") from error
        self.manifest = Manifest.from_json(b"".join(self.parts(MANIFEST)))

    def parts(self, name: str) -> Iterator[bytes]:
        """A member's content, a piece at a time. Raises BackupDamaged when it is missing or cut off."""
        member = self._members.get(name)
        content = None if member is None else self._tar.extractfile(member)
        if member is None or content is None:
            raise BackupDamaged(f"{name} is not in the backup")
        read = 0
        try:
            while part := content.read(CHUNK):
                read += len(part)
                yield part
        except (tarfile.TarError, OSError) as error:
            raise BackupDamaged(f"{name} in the backup cannot be read: {error}") from error
        if read != member.size:
            raise BackupDamaged(f"{name} in the backup ends after {read} of {member.size} bytes")

    def checked(self, name: str, sha256: str) -> Iterator[bytes]:
        """As `parts`. Raises BackupDamaged at the end when the whole has another hash."""
        digest = hashlib.sha256()
        for part in self.parts(name):
            digest.update(part)
            yield part
        if digest.hexdigest() != sha256:
            raise BackupDamaged(f"{name} in the backup has been altered: its SHA-256 is another")

    def close(self) -> None:
        self._tar.close()
