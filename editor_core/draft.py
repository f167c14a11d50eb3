"""Weights that are only being tried: a second copy of the masters that changes places with the committed one.

An edit is asked for before it is committed, while the model goes on serving what is. Entering a draft puts its weights
and statistics into the model, leaving it puts the committed ones back; for a float32 model both are exchanges of
pointers, so a draft may be entered and left between any two mini-batches.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from editor_core.errors import StaleProposalError

if TYPE_CHECKING:
    from editor_core.editor import Editor


class Draft:
    """A copy of one editor's state that `with` makes current for as long as the block lasts."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._weights = editor.masters.snapshot()
        self._statistics = editor.statistics.copy()
        self._step = self._parent = editor.step

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exchange()

    def keep(self) -> None:
        """Make the draft the committed state for good. Raises StaleProposalError when the editor has moved on meanwhile."""
        if self._editor.step != self._parent:
            raise StaleProposalError(f"this draft was taken at step {self._parent}; the editor is at {self._editor.step}")
        self._exchange()

    def _exchange(self) -> None:
        editor = self._editor
        editor.masters.exchange(self._weights)
        editor.statistics, self._statistics = self._statistics, editor.statistics
        editor.step, self._step = self._step, editor.step
