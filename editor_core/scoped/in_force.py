"""The edits in force at one revision: an immutable value, so that a draft, a commit and a rollback exchange one pointer.

Maps share their structure (hash array mapped tries): with 100,000 edits a change copies some dozen nodes a changed edit, and
nothing is rebuilt, hashed or packed that has not changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from immutables import Map

from editor_core.scoped.record import Address
from editor_core.scoped.words import Word, name_key

MODULUS = 1 << 256


class Entry(NamedTuple):
    """One edit: the SHA-256 of its record (hexadecimal), the keys of its names, and its address as bytes."""

    record: str
    keys: tuple[str, ...]
    address: bytes

    @classmethod
    def of(cls, record: str, address: Address) -> Entry:
        return cls(record, tuple(sorted({key for name in address.names if (key := name_key(name))})), address.to_bytes())


class Mention(NamedTuple):
    """A name in a text: the edits that it is a subject of, and where it stands (characters)."""

    edits: tuple[int, ...]
    start: int
    end: int


@lru_cache(maxsize=4096)
def address_of(data: bytes) -> Address:
    return Address.from_bytes(data)


@dataclass(frozen=True, slots=True)
class EditsInForce:
    """By edit id what is in force, and by name which edits are about it.

    fingerprint  sum of the SHA-256 of every (edit id, record), modulo 2^256: no change reads all edits
    """

    entries: Map[int, Entry] = field(default_factory=Map)
    names: Map[str, tuple[int, ...]] = field(default_factory=Map)
    lengths: Map[str, tuple[int, ...]] = field(default_factory=Map)  # by first word: words of the names that begin with it
    total: int = 0

    @classmethod
    def of(cls, rows: Iterable[tuple[int, Entry]]) -> EditsInForce:
        """All at once."""
        entries = dict(rows)
        names: dict[str, list[int]] = {}
        lengths: dict[str, set[int]] = {}
        for edit, entry in entries.items():
            for key in entry.keys:
                names.setdefault(key, []).append(edit)
                lengths.setdefault(key.split(" ", 1)[0], set()).add(key.count(" ") + 1)
        return cls(
            Map(entries),
            Map({key: tuple(sorted(edits)) for key, edits in names.items()}),
            Map({first: tuple(sorted(sizes, reverse=True)) for first, sizes in lengths.items()}),
            sum(_term(edit, entry) for edit, entry in entries.items()) % MODULUS,
        )

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits."""
        return f"{self.total:064x}"

    def changed(self, changes: Mapping[int, Entry | None]) -> EditsInForce:
        """With these entries in place of the edits' own; None takes an edit out. Costs what the changes cost."""
        entries, names, lengths = self.entries.mutate(), self.names.mutate(), self.lengths.mutate()
        total = self.total
        for edit, new in changes.items():
            old = entries.get(edit)
            if old is not None:
                total -= _term(edit, old)
                del entries[edit]
                for key in old.keys:
                    left = tuple(other for other in names[key] if other != edit)
                    if left:
                        names[key] = left
                    else:
                        del names[key]
            if new is not None:
                total += _term(edit, new)
                entries[edit] = new
                for key in new.keys:
                    names[key] = tuple(sorted({*names.get(key, ()), edit}))
                    first, size = key.split(" ", 1)[0], key.count(" ") + 1
                    if size not in (known := lengths.get(first, ())):
                        lengths[first] = tuple(sorted({*known, size}, reverse=True))
        return replace(self, entries=entries.finish(), names=names.finish(), lengths=lengths.finish(), total=total % MODULUS)

    def address(self, edit: int) -> Address:
        return address_of(self.entries[edit].address)

    def mentions(self, found: list[Word]) -> list[Mention]:
        """The names in a text's words, in order; where several begin at one word all of them. Costs a look-up a word."""
        return list(self._mentions(found)) if self.entries else []

    def _mentions(self, found: list[Word]) -> Iterator[Mention]:
        for index, word in enumerate(found):
            for size in self.lengths.get(word.text, ()):
                run = found[index : index + size]
                if len(run) == size and (edits := self.names.get(" ".join(each.text for each in run))):
                    yield Mention(edits, run[0].start, run[-1].end)

    def rows(self) -> Iterable[tuple[int, Entry]]:
        return self.entries.items()


def _term(edit: int, entry: Entry) -> int:
    return int.from_bytes(hashlib.sha256(f"{edit} {entry.record}".encode()).digest())


NOTHING_IN_FORCE = EditsInForce()
