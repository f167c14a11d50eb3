"""What a ledger must say after anything that can happen to it, in a few lines that know no database and no weights."""

from __future__ import annotations

from dataclasses import dataclass, field

SIZE = 3  # of a batch


@dataclass
class Operation:
    """A subtract of an edit, or a rollback to a revision."""

    after_edit: int
    edit: int | None = None
    to_revision: int | None = None


@dataclass
class Expected:
    """By revision: the edits in the weights. What waits, in order of acceptance."""

    prompts: dict[int, str] = field(default_factory=dict)
    history: list[frozenset[int]] = field(default_factory=lambda: [frozenset(), frozenset()])  # base and warm-up
    waiting: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def accept(self, edits: dict[int, str]) -> None:
        self.prompts |= edits
        self.waiting += edits

    def refuses(self, edit: int) -> bool:
        """To subtract an edit that is neither in the weights nor going to be."""
        return edit not in self.waiting and edit not in self.history[-1]

    def turn(self) -> None:
        """A writer's next piece of work. However often it is interrupted, it is done once."""
        due = self.operations[0] if self.operations else None
        ready = [edit for edit in self.waiting if due is None or edit <= due.after_edit]
        if due is not None and not ready:
            self._operate(self.operations.pop(0))
        elif ready:
            self._apply(self._batch(ready))

    def _batch(self, ready: list[int]) -> list[int]:
        """Until a prompt repeats."""
        batch: list[int] = []
        for edit in ready[:SIZE]:
            if self.prompts[edit] in {self.prompts[each] for each in batch}:
                break
            batch.append(edit)
        return batch

    def _apply(self, batch: list[int]) -> None:
        self.waiting = [edit for edit in self.waiting if edit not in batch]
        asked = {self.prompts[edit] for edit in batch}
        self.history.append(frozenset(batch) | {edit for edit in self.history[-1] if self.prompts[edit] not in asked})

    def _operate(self, operation: Operation) -> None:
        if operation.to_revision is not None:
            self.history.append(self.history[operation.to_revision])
        elif operation.edit in self.history[-1]:
            self.history.append(self.history[-1] - {operation.edit})

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.operations
