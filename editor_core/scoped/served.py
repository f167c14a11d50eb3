"""The edits that a model serves: which are in force, and their updates, read when they are first needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from editor_core.modules import EditedModule
from editor_core.scoped.following import Following, InForce, Rules
from editor_core.scoped.in_force import NOTHING_IN_FORCE, EditsInForce
from editor_core.scoped.overlay import Range, overlay
from editor_core.scoped.record import Record
from editor_core.update import Update

KEPT_BYTES = 256 * 1024 * 1024  # of updates in memory


class ServedEdits:
    """Of one model, on the thread that owns it. `state` is exchanged when a revision is adopted."""

    def __init__(
        self,
        rules: Rules,
        modules: Sequence[EditedModule],
        read: Callable[[str], bytes],
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """modules: of the served model. read: a record's bytes by its SHA-256; raises what the store raises."""
        self.rules, self.modules = rules, tuple(modules)
        self.state: EditsInForce = NOTHING_IN_FORCE
        self._read, self._kept_bytes = read, kept_bytes
        self._updates: OrderedDict[str, tuple[Mapping[str, Update], int]] = OrderedDict()
        self._bytes = 0
        overlay(self.modules)

    def follow(self, ids: Sequence[int], *, is_scored: bool = False) -> Following:
        """Of a sequence that begins with these tokens (see `Following.begin`). Raises what reading a record raises."""
        following = Following(self.rules, self.state)
        following.begin(ids, is_scored=is_scored)
        for span in following.spans:
            self.updates(span)
        return following

    def forget(self) -> None:
        """Let go of all updates in memory."""
        self._updates.clear()
        self._bytes = 0

    def ranges(self, following: Following, start: int, end: int, first: int = 0) -> list[Range]:
        """What is in force at tokens start to end of a sequence that are tokens first, first + 1, ... of a pass."""
        return [
            (max(span.start, start) - start + first, min(span.end, end) - start + first, self.updates(span))
            for span in following.spans
            if span.start < end and span.end > start
        ]

    def updates(self, span: InForce) -> Mapping[str, Update]:
        """By module. Raises what reading a record raises."""
        known = self._updates.get(span.record)
        if known is None:
            record = Record.from_bytes(self._read(span.record))
            known = self._updates[span.record] = (record.updates, record.bytes_in_memory)
            self._bytes += known[1]
            while self._bytes > self._kept_bytes and len(self._updates) > 1:
                _, (_, size) = self._updates.popitem(last=False)
                self._bytes -= size
        else:
            self._updates.move_to_end(span.record)
        return known[0]
