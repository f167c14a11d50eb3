"""Reading an edit's contexts with their answers, packed in one pass; what all edits' contexts begin with is read once a model.

What is kept is what the edited blocks need of it: keys and values up to where an answer begins, and what reaches the first of
them at its tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from editor_core.breathing import breathe
from editor_core.generation.reading import Piece, RowReader, packing_order, reader_for
from editor_core.passages import Passage, opened, reaching_block, spanning
from editor_core.scoped.contexts import Contexts

BEGINNINGS = 8  # rows that keep what contexts begin with


class ContextReader:
    """Of one model, whose weights do not change below the block of the named module."""

    def __init__(self, model: Any, module: str) -> None:
        self._model, self._module = model, module
        self._reader = reader_for(model)
        self._known: dict[tuple[int, ...], int] = {}  # the row that holds a beginning

    def read(self, contexts: Contexts) -> Passage:
        """Spans from the last token of every prompt to the last token of its answer but one."""
        breathe()
        sequences = [(*each.ids, *contexts.answers[each.format][:-1]) for each in contexts.taught]
        starts = [len(each.ids) - 1 for each in contexts.taught]
        if not isinstance(self._reader, RowReader) or max(starts) == 0:
            everything = list(range(len(sequences)))
            return opened(self._model, sequences, starts, everything, [0] * len(sequences))
        pieces = self._pieces(contexts, sequences, self._reader)
        with torch.no_grad(), reaching_block(self._model, self._module) as heard:
            self._reader.read(pieces)
        cache, columns = DynamicCache(), max(starts)
        for layer, held in enumerate(self._reader.copied(BEGINNINGS, BEGINNINGS + len(sequences), columns)):
            cache.update(*held, layer)
        places, ends = torch.arange(columns, device=self._model.device), torch.tensor(starts, device=self._model.device)
        passage = spanning(sequences, starts, torch.where(places < ends[:, None], places, -1), cache)
        passage.reaching = _at_answers(heard[-1], pieces, starts, passage) if heard else None
        return passage

    @torch.no_grad()
    def _pieces(self, contexts: Contexts, sequences: list[tuple[int, ...]], reader: RowReader) -> list[Piece]:
        """What is left to read of every sequence once its row holds what it begins with."""
        reader.reserve(BEGINNINGS + len(sequences), max(map(len, sequences)) + 1)
        pieces = []
        for row, (ids, context) in enumerate(zip(sequences, contexts.taught, strict=True), BEGINNINGS):
            begun = self._begun(context.ids[: min(context.shared, len(context.ids) - 1)], reader)
            if begun:
                reader.move(self._known[context.ids[:begun]], row, begun)
            pieces.append(Piece(row, ids, begun, len(ids), wanted=0))
        return pieces

    def _begun(self, beginning: tuple[int, ...], reader: RowReader) -> int:
        """Have a row hold these tokens; how many of them are held."""
        if beginning and beginning not in self._known and len(self._known) < BEGINNINGS:
            row = len(self._known)
            reader.read([Piece(row, beginning, 0, len(beginning), wanted=0)])
            self._known[beginning] = row
        return len(beginning) if beginning in self._known else 0


def _at_answers(packed: torch.Tensor, pieces: list[Piece], starts: list[int], passage: Passage) -> torch.Tensor:
    """Of what was heard at all tokens read (1 x T x d): B x A x d at the tokens of the spans, zero where these are padded."""
    found = packed.new_zeros(*passage.ids.shape, packed.shape[-1])
    done = 0
    for index in packing_order(pieces):
        piece = pieces[index]
        end = done + piece.end - piece.start
        size = piece.end - starts[index]
        found[index, :size] = packed[0, end - size : end]
        done = end
    return found
