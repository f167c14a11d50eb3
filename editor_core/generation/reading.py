"""Passes of the model over pieces of several sequences: with keys and values kept in rows, or anew every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from editor_core.attention import packed_attention
from editor_core.errors import UnsupportedModuleError
from editor_core.generation.rows import RowCache
from editor_core.scoped.overlay import Range, over

PROBE = ((3, 5, 7, 11, 13, 17, 19), (23, 29, 31))  # token ids that every vocabulary has
TOLERANCE = 0.02  # of the logits' spread: rounding is below, a model that reads another way above


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens ids[start:end] of the sequence in a row, of which ids[:start] have been read.

    wanted  logits are wanted after so many of them, the last ones
    ranges  where edits are in force: tokens of the sequence, from and to, with the updates
    """

    row: int
    ids: Sequence[int]
    start: int
    end: int
    wanted: int = 1
    ranges: Sequence[Range] = ()

    def ranges_in(self, start: int, first: int) -> list[Range]:
        """Those of a pass in which the sequence's tokens from `start` on are tokens first, first + 1, ..."""
        shift = first - start
        return [
            (max(begins, start) + shift, min(ends, self.end) + shift, updates)
            for begins, ends, updates in self.ranges
            if begins < self.end and ends > start
        ]


def packing_order(pieces: Sequence[Piece]) -> list[int]:
    """In which pieces are packed one after the other: those of one token come first."""
    return sorted(range(len(pieces)), key=lambda index: pieces[index].end - pieces[index].start > 1)


class Reader(Protocol):
    """Reads pieces of different rows in one go; rows below `rows` and positions below `columns` must have been reserved."""

    def reserve(self, rows: int, columns: int) -> None: ...

    def read(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """By piece, the logits after its last `wanted` tokens (wanted × vocabulary, float32)."""
        ...

    def move(self, source: int, target: int, columns: int) -> None: ...

    def swap(self, one: int, other: int, columns: int) -> None: ...

    def release(self) -> None: ...


class RowReader:
    """All pieces in one pass, packed one after the other: nothing is padded but the columns of those that read one token."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = RowCache()
        self.copied = self._cache.copied
        self.reserve, self.move = self._cache.reserve, self._cache.move
        self.swap, self.release = self._cache.swap, self._cache.release
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        window = getattr(config, "sliding_window", None)
        if not kinds and window and getattr(config, "use_sliding_window", True):
            kinds = {"sliding_attention"}
        self._kinds, self._window = sorted(kinds) or ["full_attention"], window

    def read(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        device = self._model.device
        order = packing_order(pieces)
        packed = [pieces[index] for index in order]
        single = [(each.row, each.start) for each in packed if each.end - each.start == 1]
        self._cache.aim(single, [(each.row, each.start, each.end) for each in packed[len(single) :]])
        ids = torch.tensor([[id for each in packed for id in each.ids[each.start : each.end]]])
        positions = torch.tensor([[place for each in packed for place in range(each.start, each.end)]]).to(device)
        kept, sizes, done, ranges = [], [], 0, list[Range]()
        for each in packed:
            ranges += each.ranges_in(each.start, done)
            last = done + each.end - each.start
            kept += list(range(last - each.wanted, last))
            sizes.append(each.wanted)
            done = last
        with packed_attention(self._model, self._cache.parts), over(ranges):
            logits = self._model(
                input_ids=ids.to(device),
                attention_mask=self._mask(positions),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.tensor(kept, dtype=torch.int64, device=device),
            ).logits[0]
        found = dict(zip(order, logits.float().split(sizes), strict=True))
        return [found[index] for index in range(len(pieces))]

    def _mask(self, positions: torch.Tensor) -> Any:
        """1 × 1 × T × columns bool, what each token sees of its own row, or one such for every kind of layer."""
        columns = torch.arange(int(positions.max()) + 1, device=positions.device)
        seen = columns <= positions[:, None, :, None]
        masks = {"full_attention": seen}
        if self._window:
            masks["sliding_attention"] = seen & (columns > positions[:, None, :, None] - self._window)
        return masks[self._kinds[0]] if len(self._kinds) == 1 else {kind: masks[kind] for kind in self._kinds}


class PlainReader:
    """Every sequence by itself, from its beginning every time: slow, and right for models that keep something else."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def reserve(self, rows: int, columns: int) -> None:
        """Nothing is kept."""

    def move(self, source: int, target: int, columns: int) -> None:
        """Nothing is kept."""

    def swap(self, one: int, other: int, columns: int) -> None:
        """Nothing is kept."""

    def release(self) -> None:
        """Nothing is kept."""

    def read(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        found = []
        for piece in pieces:
            ids = torch.tensor([list(piece.ids[: piece.end])], device=self._model.device)
            with over(piece.ranges_in(0, 0)):
                logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
            found.append(logits[-piece.wanted :].float())
        return found


def reader_for(model: Any) -> Reader:
    """Rows where the model reads from them what it reads on its own; asked once a model."""
    if model not in _reads_rows:
        _reads_rows[model] = _can_read_rows(model)
    return RowReader(model) if _reads_rows[model] else PlainReader(model)


_reads_rows: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@torch.inference_mode()
def _can_read_rows(model: Any) -> bool:
    """Asked with a few tokens, since no list of architectures is complete."""
    plain = PlainReader(model)
    try:
        layers = DynamicCache(config=model.config).layers
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
            return False
        trial = RowReader(model)
        trial.reserve(len(PROBE), max(map(len, PROBE)))
        first, second = PROBE
        trial.read([Piece(0, first, 0, len(first) - 1)])
        last = [Piece(0, first, len(first) - 1, len(first)), Piece(1, second, 0, len(second))]
        pairs = list(zip(trial.read(last), plain.read(last), strict=True))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, UnsupportedModuleError):
        return False
    return all(float((one - other).abs().max()) <= TOLERANCE * float(other.std()) for one, other in pairs)
