"""Reading an edit's contexts up to where its answer begins: packed, and what all edits' contexts begin with once a model."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from editor_core.breathing import breathe
from editor_core.generation.reading import Piece, RowReader, reader_for
from editor_core.passages import Passage, opened, spanning
from editor_core.scoped.contexts import Contexts

BEGINNINGS = 8  # rows that keep what contexts begin with


class ContextReader:
    """Of one model, whose weights do not change."""

    def __init__(self, model: Any) -> None:
        self._model = model
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
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._rows(contexts, self._reader)):
            cache.update(keys, values, layer)
        columns = torch.arange(max(starts), device=self._model.device)
        ends = torch.tensor(starts, device=self._model.device)[:, None]
        known = torch.where(columns < ends, columns, -1)
        return spanning(sequences, starts, known, cache)

    @torch.no_grad()
    def _rows(self, contexts: Contexts, reader: RowReader) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """By layer: keys and values of all contexts up to their last tokens."""
        prompts = [each.ids[:-1] for each in contexts.taught]
        reader.reserve(BEGINNINGS + len(prompts), max(map(len, prompts)) + 1)
        pieces = []
        for row, (ids, context) in enumerate(zip(prompts, contexts.taught, strict=True), BEGINNINGS):
            begun = self._begun(context.ids[: min(context.shared, len(ids) - 1)], reader) if context.shared else 0
            if begun:
                reader.move(self._known[context.ids[:begun]], row, begun)
            if len(ids) > begun:
                pieces.append(Piece(row, ids, begun, len(ids)))
        if pieces:
            reader.read(pieces)
        return reader.copied(BEGINNINGS, BEGINNINGS + len(prompts), max(map(len, prompts)))

    def _begun(self, beginning: tuple[int, ...], reader: RowReader) -> int:
        """Have a row hold these tokens; how many of them are held."""
        if beginning and beginning not in self._known and len(self._known) < BEGINNINGS:
            row = len(self._known)
            reader.read([Piece(row, beginning, 0, len(beginning))])
            self._known[beginning] = row
        return len(beginning) if beginning in self._known else 0
