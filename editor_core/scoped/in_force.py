"""The edits in force at one revision: an immutable value, so that a draft, a commit and a rollback exchange one pointer.

What a checkpoint held stays as it was packed and is looked up there; changes since are in maps that share their structure
(hash array mapped tries). With 100,000 edits a change copies some dozen nodes a changed edit, and nothing is rebuilt, hashed or
packed that has not changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from heapq import merge
from typing import NamedTuple

from immutables import Map

from editor_core.scoped.entry import Entry
from editor_core.scoped.packed import NOTHING_PACKED, PackedEdits
from editor_core.scoped.record import Address
from editor_core.scoped.words import Word, name_key

MODULUS = 1 << 256


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
    """By edit id what is in force, and by name which edits are about it: what a checkpoint holds, and what has changed since.

    base         as they were read
    entries      of edits that are other than in the base; None for one taken out of it
    names        of names whose edits are other than in the base: all of their edits, ascending
    lengths      by first word: words of names that begin with it, of names that came to the base
    count        edits in force
    total        sum of the SHA-256 of every (edit id, record), modulo 2^256
    """

    base: PackedEdits = NOTHING_PACKED
    entries: Map[int, Entry | None] = field(default_factory=Map)
    names: Map[str, tuple[int, ...]] = field(default_factory=Map)
    lengths: Map[str, tuple[int, ...]] = field(default_factory=Map)
    count: int = 0
    total: int = 0

    @classmethod
    def of(cls, rows: Iterable[tuple[int, Entry]]) -> EditsInForce:
        """All at once."""
        return cls().changed(dict(rows))

    @classmethod
    def opened(cls, base: PackedEdits) -> EditsInForce:
        """Those of a checkpoint. Reads all records' hashes: what the fingerprint says is what is in force."""
        return cls(base, count=len(base), total=sum(_term(edit, record) for edit, record in base.records_by_edit()) % MODULUS)

    def __len__(self) -> int:
        return self.count

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits. No change reads all edits."""
        return f"{self.total:064x}"

    def get(self, edit: int) -> Entry | None:
        """None for one that is not in force."""
        return self.entries[edit] if edit in self.entries else self.base.get(edit)

    def address(self, edit: int) -> Address:
        """Of one in force."""
        entry = self.get(edit)
        assert entry is not None
        return address_of(entry.address)

    def named(self, key: str) -> tuple[int, ...]:
        """Ascending ids of the edits that have this name."""
        found = self.names.get(key)
        return self.base.named(key) if found is None else found

    def same_question(self, address: Address) -> tuple[int, ...]:
        """Ascending ids of the edits of the same subject that answer the same question.

        One that shares an alias alone is about something else: the subject of one must be among the names of the other.
        """
        about = {edit: self.address(edit) for name in address.names for edit in self.named(name_key(name))}
        return tuple(
            sorted(
                edit
                for edit, other in about.items()
                if (_subject(other) in _keys(address) or _subject(address) in _keys(other))
                and other.gate.is_same_question(address.gate)
            )
        )

    def rows(self) -> Iterator[tuple[int, Entry]]:
        """All of them, by ascending edit id."""
        changed = sorted(self.entries)
        kept = ((edit, entry) for edit, entry in self.base.rows() if edit not in self.entries)
        new = ((edit, entry) for edit in changed if (entry := self.entries[edit]) is not None)
        return merge(kept, new)

    def packed(self) -> EditsInForce:
        """The same, all of it in the base. Costs what all edits cost."""
        return EditsInForce(PackedEdits.pack(self.rows()), count=self.count, total=self.total)

    def changed(self, changes: Mapping[int, Entry | None]) -> EditsInForce:
        """With these entries in place of the edits' own; None takes an edit out. Costs what the changes cost."""
        entries, names, lengths = self.entries.mutate(), self.names.mutate(), self.lengths.mutate()
        count, total = self.count, self.total

        def named(key: str) -> tuple[int, ...]:
            found: tuple[int, ...] | None = names.get(key, None)
            return self.base.named(key) if found is None else found

        for edit, new in changes.items():
            old = entries[edit] if edit in entries else self.base.get(edit)
            if old is not None:
                total, count = total - _term(edit, old.record), count - 1
                for key in old.keys:
                    left = tuple(other for other in named(key) if other != edit)
                    if left or self.base.named(key):
                        names[key] = left
                    else:
                        del names[key]
            if new is not None:
                total, count = total + _term(edit, new.record), count + 1
                for key in new.keys:
                    names[key] = tuple(sorted({*named(key), edit}))
                    first, size = key.split(" ", 1)[0], key.count(" ") + 1
                    if size not in (sizes := lengths.get(first, ())):
                        lengths[first] = (*sizes, size)
            if new is not None or self.base.get(edit) is not None:
                entries[edit] = new
            elif edit in entries:
                del entries[edit]
        return replace(
            self,
            entries=entries.finish(),
            names=names.finish(),
            lengths=lengths.finish(),
            count=count,
            total=total % MODULUS,
        )

    def mentions(self, found: list[Word]) -> list[Mention]:
        """The names in a text's words, in order; where several begin at one word all of them. Costs a look-up a word."""
        return list(self._mentions(found)) if self.count else []

    def _mentions(self, found: list[Word]) -> Iterator[Mention]:
        for index, word in enumerate(found):
            sizes = {*self.lengths.get(word.text, ()), *self.base.lengths(word.text)}
            for size in sorted(sizes, reverse=True):
                run = found[index : index + size]
                if len(run) == size and (edits := self.named(" ".join(each.text for each in run))):
                    yield Mention(edits, run[0].start, run[-1].end)


def _subject(address: Address) -> str:
    return name_key(address.names[0])


def _keys(address: Address) -> set[str]:
    return {name_key(name) for name in address.names}


def _term(edit: int, record: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{edit} {record}".encode()).digest())


NOTHING_IN_FORCE = EditsInForce()
