"""An edit and the states it passes through. Knows no database and no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

Answers = Mapping[str, str]  # by format: what the model says


class EditState(StrEnum):
    """accepted -> applying -> applied | failed; applied -> reverted | superseded, and applied again by a rollback."""

    ACCEPTED = "accepted"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    REVERTED = "reverted"  # subtracted, rolled back beyond, or left out of a rebuild
    SUPERSEDED = "superseded"  # a later edit of the same prompt took its place


class EditEvent(StrEnum):
    """What one revision did to one edit. The last event up to a revision says what the edit is there."""

    APPLIED = "applied"
    RESTORED = "restored"  # by a rollback to before it was taken out
    REVERTED = "reverted"
    SUPERSEDED = "superseded"
    FAILED = "failed"  # a rebuild found that it no longer holds


IN_THE_WEIGHTS = (EditEvent.APPLIED, EditEvent.RESTORED)


def same_prompt(prompt: str) -> str:
    """Equal for prompts that ask the same: without case, white space squeezed."""
    return " ".join(prompt.split()).casefold()


@dataclass(frozen=True, slots=True)
class NewEdit:
    """One requested fact change, as the caller put it."""

    prompt: str
    target: str
    rephrases: tuple[str, ...] = ()
    unrelated: tuple[str, ...] = ()

    def content(self) -> dict[str, object]:
        return {
            "prompt": self.prompt,
            "target": self.target,
            "rephrases": list(self.rephrases),
            "unrelated": list(self.unrelated),
        }


@dataclass(frozen=True, slots=True)
class UnrelatedAnswer:
    """What one of an edit's unrelated prompts is answered, in one format, before and after the edit's batch."""

    prompt: str
    format: str
    before: str
    after: str
    changed: bool


@dataclass(frozen=True, slots=True)
class EditRecord:
    """An edit as the ledger has it."""

    id: int
    submission_id: int
    edit: NewEdit
    state: EditState
    attempts: int
    batch_id: int | None
    revision: int | None
    ended_by: int | None  # the revision that reverted or superseded it
    tokens: int | None  # answer tokens that the statistics have seen of it
    answers_before: Answers | None
    answers_after: Answers | None
    holds: Mapping[str, bool] | None
    unrelated_answers: tuple[UnrelatedAnswer, ...]
    failure_code: str | None
    failure_detail: str | None
    submitted_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one edit of a batch: its answers before and after, by format, whether each holds, what else moved."""

    edit_id: int
    before: Answers
    after: Answers
    holds: Mapping[str, bool]
    unrelated: tuple[UnrelatedAnswer, ...] = ()
    tokens: int | None = None
    leans_on: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one edit was not applied. tokens: those that the statistics have seen of it all the same."""

    edit_id: int
    code: str
    detail: str
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Edits claimed together, oldest first. tries: how often a worker has begun it."""

    id: int
    edits: tuple[EditRecord, ...]
    tries: int = 1
