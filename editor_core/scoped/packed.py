"""Edits in force as a checkpoint keeps them: looked up in its arrays, so that opening one makes no object an edit.

Everything is a flat array, sorted by what it is looked up by. A name is found by 64 bits of its BLAKE2b, by bisection.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch

from editor_core.scoped.entry import Entry

_JOINED = " | "  # between the keys of one edit's names; no key has it
_DIGEST = 32  # bytes of a record's SHA-256


@dataclass(frozen=True, slots=True)
class PackedEdits:
    """n edits with m names.

    ids             int64 n, ascending
    records         bytes, 32 an edit: SHA-256
    key_ends        int64 n: where each edit's keys end among all of them
    keys            bytes, UTF-8
    address_ends    int64 n, likewise
    addresses       bytes
    name_hashes     int64 m, ascending, of every name of every edit
    name_places     int64 m: the place in `ids` of the edit that has it
    first_hashes    int64, ascending, of names' first words, once for each length in words that such a name has
    first_lengths   int64, those lengths
    """

    ids: memoryview
    records: bytes
    key_ends: memoryview
    keys: bytes
    address_ends: memoryview
    addresses: bytes
    name_hashes: memoryview
    name_places: memoryview
    first_hashes: memoryview
    first_lengths: memoryview

    @classmethod
    def pack(cls, rows: Iterable[tuple[int, Entry]]) -> PackedEdits:
        """rows: by ascending edit id."""
        ids, records, keys, addresses, key_ends, address_ends = [], bytearray(), bytearray(), bytearray(), [], []
        names: list[tuple[int, int]] = []
        firsts: set[tuple[int, int]] = set()
        for place, (edit, entry) in enumerate(rows):
            ids.append(edit)
            records += bytes.fromhex(entry.record)
            keys += _JOINED.join(entry.keys).encode()
            addresses += entry.address
            key_ends.append(len(keys))
            address_ends.append(len(addresses))
            names += [(_hash(key), place) for key in entry.keys]
            firsts |= {(_hash(key.split(" ", 1)[0]), key.count(" ") + 1) for key in entry.keys}
        by_name, by_first = sorted(names), sorted(firsts)
        return cls(
            _numbers(ids),
            bytes(records),
            _numbers(key_ends),
            bytes(keys),
            _numbers(address_ends),
            bytes(addresses),
            _numbers([each for each, _ in by_name]),
            _numbers([each for _, each in by_name]),
            _numbers([each for each, _ in by_first]),
            _numbers([each for _, each in by_first]),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """int64 and uint8, by field."""
        return {each.name: _tensor(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> PackedEdits:
        """Raises KeyError when one is missing, ValueError when they do not fit together."""
        found: dict[str, Any] = {
            each.name: _numbers(tensors[each.name]) if each.type == "memoryview" else tensors[each.name].numpy().tobytes()
            for each in fields(cls)
        }
        packed = cls(**found)
        count = len(packed.ids)
        if not (
            len(packed.records) == _DIGEST * count
            and count == len(packed.key_ends) == len(packed.address_ends)
            and len(packed.name_hashes) == len(packed.name_places)
            and len(packed.first_hashes) == len(packed.first_lengths)
            and (not count or (packed.key_ends[-1], packed.address_ends[-1]) == (len(packed.keys), len(packed.addresses)))
        ):
            raise ValueError("the arrays of packed edits do not fit together")
        return packed

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, edit: int) -> Entry | None:
        place = bisect_left(self.ids, edit)
        return self._entry(place) if place < len(self.ids) and self.ids[place] == edit else None

    def records_by_edit(self) -> Iterator[tuple[int, str]]:
        """(edit id, SHA-256 of its record), by ascending edit id."""
        return ((edit, self._record(place)) for place, edit in enumerate(self.ids))

    def rows(self) -> Iterator[tuple[int, Entry]]:
        """By ascending edit id."""
        for place, edit in enumerate(self.ids):
            yield edit, self._entry(place)

    def named(self, key: str) -> tuple[int, ...]:
        """Ascending ids of the edits that have this name."""
        return tuple(self.ids[place] for place in _found(self.name_hashes, self.name_places, key) if key in self._keys(place))

    def lengths(self, first: str) -> Sequence[int]:
        """Words of the names that begin with this one (or with one of the same hash)."""
        return _found(self.first_hashes, self.first_lengths, first)

    def _entry(self, place: int) -> Entry:
        start, end = self.address_ends[place - 1] if place else 0, self.address_ends[place]
        return Entry(self._record(place), self._keys(place), self.addresses[start:end])

    def _record(self, place: int) -> str:
        return self.records[_DIGEST * place : _DIGEST * (place + 1)].hex()

    def _keys(self, place: int) -> tuple[str, ...]:
        keys = self.keys[self.key_ends[place - 1] if place else 0 : self.key_ends[place]].decode()
        return tuple(keys.split(_JOINED)) if keys else ()


@lru_cache(maxsize=16384)  # a text's words are looked up with every token that is written after them
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _numbers(values: Sequence[int] | torch.Tensor) -> memoryview:
    array: Any = torch.as_tensor(values, dtype=torch.int64).numpy()
    return memoryview(array)


def _tensor(values: memoryview | bytes) -> torch.Tensor:
    kind = torch.uint8 if isinstance(values, bytes) else torch.int64
    return torch.frombuffer(bytearray(values), dtype=kind) if len(values) else torch.empty(0, dtype=kind)


def _found(hashes: memoryview, values: memoryview, text: str) -> list[int]:
    wanted = _hash(text)
    place, found = bisect_left(hashes, wanted), []
    while place < len(hashes) and hashes[place] == wanted:
        found.append(values[place])
        place += 1
    return found


NOTHING_PACKED = PackedEdits.pack(())
