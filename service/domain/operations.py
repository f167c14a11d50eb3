"""An operation: something done to the model as a whole that takes facts back. Each becomes a revision of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.revisions import RevisionKind


class OperationKind(StrEnum):
    SUBTRACT = "subtract"  # one edit's share
    ROLLBACK = "rollback"  # to a revision
    REBUILD = "rebuild"  # without given edits

    @property
    def revision_kind(self) -> RevisionKind:
        return RevisionKind(self.value)


class OperationState(StrEnum):
    """accepted -> applying -> applied | failed."""

    ACCEPTED = "accepted"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NewOperation:
    """What is asked for, by whom and why. Of the last three fields one counts, by kind."""

    kind: OperationKind
    actor: str
    reason: str | None
    edit_id: int | None = None
    to_revision: int | None = None
    without: tuple[int, ...] = ()
    key_id: str = ""  # of the API key that let the request in

    def content(self) -> dict[str, object]:
        """What an Idempotency-Key stands for."""
        return {
            "kind": self.kind.value,
            "reason": self.reason,
            "edit_id": self.edit_id,
            "to_revision": self.to_revision,
            "without": list(self.without),
        }


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """An operation as the ledger has it. after_edit: the newest edit that was accepted before it, and so goes first."""

    id: int
    asked: NewOperation
    state: OperationState
    after_edit: int
    attempts: int
    revision: int | None
    failure_code: str | None
    failure_detail: str | None
    accepted_at: datetime
    finished_at: datetime | None
