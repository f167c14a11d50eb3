"""One edit in force: which record, and where it is in force."""

from __future__ import annotations

from typing import NamedTuple

from editor_core.scoped.record import Address
from editor_core.scoped.words import name_key


class Entry(NamedTuple):
    """One edit: the SHA-256 of its record (hexadecimal), the keys of its names, and its address as bytes."""

    record: str
    keys: tuple[str, ...]
    address: bytes

    @classmethod
    def of(cls, record: str, address: Address) -> Entry:
        return cls(record, tuple(sorted({key for name in address.names if (key := name_key(name))})), address.to_bytes())
