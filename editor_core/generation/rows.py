"""Keys and values of all running sequences, one row each, in memory that stays where it is.

A library cache grows by copying itself with every token, and cannot let one sequence go or join. Here sequence r's token at
position p is at [r, :, p]; a pass writes its own tokens and reads a view. What lies beyond a sequence's own length is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

GRAIN = 128  # columns are added in multiples of it
KEPT_COLUMNS = 1024  # memory for more than that is given back when nobody needs it


class RowCache(Cache):  # type: ignore[misc]
    """Rows × heads × columns × d for every layer, made when the layer is first written to."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._rows = self._columns = 0
        self._writing: tuple[torch.Tensor, ...] = ()
        self._reading: slice | torch.Tensor = slice(0)
        self._width = 0
        self._alone: tuple[int, int] | None = None

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

    def aim(self, rows: Sequence[int], positions: torch.Tensor) -> None:
        """Say whose tokens the next pass reads. rows: B; positions: B × A int64, -1 for padding."""
        where = torch.tensor(rows, device=positions.device)
        batch, place = (positions >= 0).nonzero(as_tuple=True)
        self._writing = (where[batch], positions[batch, place], batch, place)
        contiguous = list(rows) == list(range(rows[0], rows[0] + len(rows)))
        self._reading = slice(rows[0], rows[0] + len(rows)) if contiguous else where
        self._width = int(positions.max()) + 1
        self._alone = (rows[0], self._width - positions.shape[1]) if len(rows) == 1 else None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *others: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write B × heads × A × d of one layer; returns what its rows hold, B × heads × width × d."""
        if layer_idx == len(self._keys):
            self._keys.append(self._new(key_states))
            self._values.append(self._new(value_states))
        rows, columns, batch, place = self._writing
        found = []
        for store, new in ((self._keys[layer_idx], key_states), (self._values[layer_idx], value_states)):
            if self._alone is not None:  # one block, with no indices to follow
                row, first = self._alone
                store[row, :, first : self._width] = new[0]
            else:
                store[rows, :, columns] = new[batch, :, place]
            found.append(store[self._reading, :, : self._width])
        return found[0], found[1]

    def move(self, source: int, target: int, columns: int) -> None:
        """Copy the first columns of one row to another."""
        for store in (*self._keys, *self._values):
            store[target, :, :columns] = store[source, :, :columns]

    def swap(self, one: int, other: int, columns: int) -> None:
        """Two rows change places."""
        for store in (*self._keys, *self._values):
            store[[one, other], :, :columns] = store[[other, one], :, :columns]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """What positions would start from if the caller did not say: it always does."""
        return 0
