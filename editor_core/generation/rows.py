"""Keys and values of many sequences, each in a row of memory that stays where it is.

A library cache grows by copying itself with every token, and cannot let one sequence go or join. Here sequence r's token at
position p is at [r, :, p]; a pass writes its own tokens and looks at the rows they belong to. What lies beyond a sequence's own
length is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from editor_core.attention import Part

GRAIN = 128  # columns are added in multiples of it
KEPT_COLUMNS = 1024  # memory for more than that is given back when nobody needs it


class RowCache(Cache):  # type: ignore[misc]
    """Rows × heads × columns × d for every layer, made when the layer is first written to."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._rows = self._columns = 0
        self._single = (torch.zeros(0, dtype=torch.int64),) * 2
        self._runs: list[tuple[int, int, int]] = []
        self.parts: list[Part] = []

    def reserve(self, rows: int, columns: int) -> None:
        """Room for so many rows and columns at least, keeping what is there."""
        if rows <= self._rows and columns <= self._columns:
            return
        rows = max(rows, self._rows)
        columns = max(-(-columns // GRAIN) * GRAIN, self._columns)
        self._rows, self._columns = rows, columns
        self._keys = [self._grown(each) for each in self._keys]
        self._values = [self._grown(each) for each in self._values]

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = self._new(old)
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def _new(self, like: torch.Tensor) -> torch.Tensor:
        """Zeros: a masked value that is not a number would still spoil the sum."""
        return like.new_zeros(self._rows, like.shape[1], self._columns, like.shape[3])

    def release(self) -> None:
        """Nobody is in it: give the memory of an unusually long sequence back."""
        if self._columns > KEPT_COLUMNS:
            self._keys, self._values = [], []
            self._rows = self._columns = 0

    def aim(self, single: Sequence[tuple[int, int]], runs: Sequence[tuple[int, int, int]]) -> None:
        """Say whose tokens the next pass reads, in this order.

        single   (row, position), of sequences that read one token
        runs     (row, first position, one after the last), of those that read several
        """
        rows, positions = torch.tensor(single, dtype=torch.int64).reshape(-1, 2).unbind(1)
        self._single, self._runs, self.parts = (rows, positions), list(runs), []
        if single:
            first = single[0][0]
            contiguous = [row for row, _ in single] == list(range(first, first + len(single)))
            where = slice(first, first + len(single)) if contiguous else rows
            self.parts.append(Part(0, len(single), where, max(position for _, position in single) + 1))
        done = len(single)
        for row, start, end in runs:
            self.parts.append(Part(done, done + end - start, slice(row, row + 1), end))
            done += end - start

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *others: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write 1 × heads × T × d of one layer; returns the layer's memory, rows × heads × columns × d."""
        if layer_idx == len(self._keys):
            self._keys.append(self._new(key_states))
            self._values.append(self._new(value_states))
        rows, positions = self._single
        for store, new in ((self._keys[layer_idx], key_states[0]), (self._values[layer_idx], value_states[0])):
            done = len(rows)
            if done:
                store[rows, :, positions] = new[:, :done].transpose(0, 1)
            for row, start, end in self._runs:
                store[row, :, start:end] = new[:, done : done + end - start]
                done += end - start
        return self._keys[layer_idx], self._values[layer_idx]

    def move(self, source: int, target: int, columns: int) -> None:
        """Copy the first columns of one row to another."""
        for store in (*self._keys, *self._values):
            store[target, :, :columns] = store[source, :, :columns]

    def copied(self, first: int, last: int, columns: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """By layer, keys and values of rows first to last - 1: (last - first) × heads × columns × d, each a copy."""
        return [
            (keys[first:last, :, :columns].clone(), values[first:last, :, :columns].clone())
            for keys, values in zip(self._keys, self._values, strict=True)
        ]

    def swap(self, one: int, other: int, columns: int) -> None:
        """Two rows change places."""
        for store in (*self._keys, *self._values):
            store[[one, other], :, :columns] = store[[other, one], :, :columns]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """What positions would start from if the caller did not say: it always does."""
        return 0
