"""The batch that never ends: before every token sequences may join it, and after every token they may leave.

One step is one pass: it reads a token of every running sequence and at most `prefill_tokens` of new prompts, in the order
they came, and says the next token of all that are read to their end. What another sequence has read of the same beginning,
with the weights as they are, is copied instead of being read again.
Rows 0 to R - 1 of the cache are the running sequences', the rows after them those of prompts being read; so a step
over the running ones needs no copy, and a sequence that leaves costs moving one other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

import torch

from editor_core.generation.reading import Piece, Reader, reader_for
from editor_core.generation.sampling import Scored, chosen, scored
from editor_core.generation.sequence import Sequence
from editor_core.greedy import end_tokens
from editor_core.scoped.following import Following
from editor_core.scoped.overlay import Range
from editor_core.scoped.served import ServedEdits

LEAST_SHARED = 4  # tokens: fewer are read as fast as they are copied


class Batcher:
    """All methods on the thread that owns the model.

    rows            sequences under way at once, at most
    kept_tokens     rows × the longest sequence that may be under way, at most; a sequence alone may always be
    prefill_tokens  of prompts, read between two tokens of those who run; all new prompts have as much of them
    holding         new sequences wait while it is true
    edits           what is in force where, of a model with scoped edits
    """

    def __init__(
        self,
        model: Any,
        *,
        rows: int = 32,
        kept_tokens: int = 32_768,
        prefill_tokens: int = 128,
        edits: ServedEdits | None = None,
    ) -> None:
        self._model, self._edits = model, edits
        self._reader: Reader = reader_for(model)
        self._rows, self._kept_tokens, self._prefill_tokens = rows, kept_tokens, prefill_tokens
        self._ends = end_tokens(model)
        self.holding = False
        self.waiting: deque[Sequence] = deque()
        self.filling: list[Sequence] = []
        self.running: list[Sequence] = []

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.running or self.filling or (self.waiting and not self.holding))

    @property
    def under_way(self) -> int:
        """Sequences that hold a row."""
        return len(self.running) + len(self.filling)

    @property
    def _all_under_way(self) -> Iterator[Sequence]:
        return chain(self.running, self.filling)

    def add(self, sequence: Sequence) -> None:
        """Join as soon as there is room. Its prompt must have a token at least."""
        self.waiting.append(sequence)

    @torch.inference_mode()
    def remove(self, ids: Iterable[str]) -> list[Sequence]:
        """Take sequences out wherever they are; returns those that were there."""
        gone = set(ids)
        found = [each for each in (*self.waiting, *self.filling, *self.running) if each.id in gone]
        if found:
            self.waiting = deque(each for each in self.waiting if each.id not in gone)
            for each in found:
                if each.row >= 0:
                    self._leave(each)
        return found

    @torch.inference_mode()
    def step(self, version: int) -> list[Sequence]:
        """Go on by one token; returns the sequences that have something new to tell, those that failed among them.

        What goes wrong with one of them leaves the others as they are.

        version: of the weights as they are.
        """
        failed = self._admit(version)
        ranges, lost = self._all_ranges()
        failed += lost
        going, prompts = list(self.running), self._prompts(version, ranges)
        reading = [*going, *(each for each, _ in prompts)]
        if not reading:
            return failed
        for each in reading:
            each.under(version if each.following is None else each.begun_at)
        pieces = [Piece(each.row, each.tokens, each.read, each.read + 1, ranges=ranges[each.id]) for each in going]
        pieces += [piece for _, piece in prompts]
        logits = self._reader.read(pieces)
        for each, piece in zip(reading, pieces, strict=True):
            each.read = piece.end
        last = logits[: len(going)]
        for (each, piece), found in zip(prompts, logits[len(going) :], strict=True):
            if each.sampling.echo:
                following = each.ids[piece.start + 1 : piece.end + 1]
                each.scores += scored(found[: len(following)], following, each.sampling.logprobs or 0)
            if each.read == len(each.ids):
                self._start(each)
                going.append(each)
                last.append(found[-1:])
        self._hear(going, last)
        for each in [each for each in going if each.finish_reason or each.failure]:
            self._leave(each)
        return [*failed, *going]

    def _ranges(self, sequence: Sequence) -> list[Range]:
        if self._edits is None or sequence.following is None or not sequence.following.spans:
            return []
        return self._edits.ranges(sequence.following, 0, len(sequence.tokens))

    def _all_ranges(self) -> tuple[dict[str, list[Range]], list[Sequence]]:
        """By id of a sequence under way, where edits are in force; and those of which it could not be read, which leave."""
        found, lost = dict[str, list[Range]](), list[Sequence]()
        for each in self._all_under_way:
            try:
                found[each.id] = self._ranges(each)
            except Exception as error:
                each.failure = error
                lost.append(each)
        for each in lost:
            self._leave(each)
        return found, lost

    def _admit(self, version: int) -> list[Sequence]:
        """Begin with those for whom there is room; returns those that could not be begun, with the reason."""
        failed: list[Sequence] = []
        while self.waiting and not self.holding and self.under_way < self._rows:
            longest = max(each.longest for each in (self.waiting[0], *self._all_under_way))
            if self.under_way and (self.under_way + 1) * longest > self._kept_tokens:
                break
            sequence = self.waiting.popleft()
            try:
                sequence.following = self._follow(sequence)
            except Exception as error:
                sequence.failure = error
                failed.append(sequence)
                continue
            sequence.begun_at = version
            sequence.row = self.under_way
            self._reader.reserve(self.under_way + 1, longest)
            self.filling.append(sequence)
        return failed

    def _follow(self, sequence: Sequence) -> Following | None:
        return None if self._edits is None else self._edits.follow(sequence.ids, is_scored=sequence.sampling.echo)

    def _prompts(self, version: int, ranges: Mapping[str, list[Range]]) -> list[tuple[Sequence, Piece]]:
        """What is to be read on in the prompts: of each as much, so that a short one does not wait for the long ones before."""
        left, found = self._prefill_tokens, []
        for index, each in enumerate(sorted(self.filling, key=lambda each: len(each.ids) - each.read)):
            share = -(-left // (len(self.filling) - index))
            if not share:
                break
            if not each.read and not each.sampling.echo:
                self._take_over(each, version)
            end = min(len(each.ids), each.read + share)
            left -= end - each.read
            wanted = end - each.read if each.sampling.echo else 1
            found.append((each, Piece(each.row, each.ids, each.read, end, wanted, ranges[each.id])))
        return found

    def _take_over(self, sequence: Sequence, version: int) -> None:
        """The beginning of its prompt, from whoever has read most of it; its last token is read in any case."""
        alike = (each for each in self._all_under_way if each.following is not None or each.versions == [version])
        same = [(each.beginning(sequence.ids[:-1]), each) for each in alike if each is not sequence]
        same = [(length, each) for length, each in same if sequence.is_read_alike(each, length)]
        length, source = max(same, key=itemgetter(0), default=(0, sequence))
        if length >= LEAST_SHARED:
            self._reader.move(source.row, sequence.row, length)
            sequence.read = length

    def _hear(self, going: list[Sequence], logits: list[torch.Tensor]) -> None:
        """One more token each, of those that want one. logits: by sequence, 1 × vocabulary, float32."""
        for each in going:
            if not each.sampling.max_tokens:
                each.end("length")
        saying = [(each, last) for each, last in zip(going, logits, strict=True) if each.sampling.max_tokens]
        if not saying:
            return
        going, rows = [each for each, _ in saying], torch.cat([last for _, last in saying])
        tokens = chosen(rows, [each.sampling for each in going], [each.generator for each in going])
        said = [Scored(token) for token in tokens]
        asked = [row for row, each in enumerate(going) if each.sampling.logprobs is not None]
        if asked:
            top = max(going[row].sampling.logprobs or 0 for row in asked)
            for row, found in zip(asked, scored(rows[asked], [tokens[row] for row in asked], top), strict=True):
                said[row] = Scored(found.token, found.logprob, found.top[: going[row].sampling.logprobs])
        for each, token in zip(going, said, strict=True):
            try:
                each.say(token, self._ends)
                if each.following is not None and self._edits is not None and not each.finish_reason:
                    each.following.said(token.token)
            except Exception as error:
                each.failure = error

    def _start(self, sequence: Sequence) -> None:
        """From the prompts being read to the running ones: into the row after theirs."""
        row = len(self.running)
        if sequence.row != row:
            other = next(each for each in self.filling if each.row == row)
            self._reader.swap(sequence.row, row, max(sequence.read, other.read))
            other.row, sequence.row = sequence.row, row
        self.filling.remove(sequence)
        self.running.append(sequence)

    def _leave(self, sequence: Sequence) -> None:
        """Close the gap: with the last of the running, and where that was with the last of those being read."""
        if sequence in self.running:
            last = self.running.pop()
            if last is not sequence:
                self._take_row(last, sequence.row)
                self.running[sequence.row] = last
            gap = len(self.running)
        else:
            self.filling.remove(sequence)
            gap = sequence.row
        last_row = len(self.running) + len(self.filling)
        for each in self.filling:
            if each.row == last_row and gap != last_row:
                self._take_row(each, gap)
        sequence.row = -1
        if not self.under_way:
            self._reader.release()

    def _take_row(self, sequence: Sequence, row: int) -> None:
        self._reader.move(sequence.row, row, sequence.read)
        sequence.row = row
