"""An edit and the states it passes through. Knows no database and no model."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.callers import NOBODY, Caller

Answers = Mapping[str, str]  # by format: what the model says


class EditState(StrEnum):
    """accepted -> applying -> applied | failed; applied -> reverted | superseded, and applied again by a rollback."""

    ACCEPTED = "accepted"
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    REVERTED = "reverted"  # subtracted, rolled back beyond, or left out of a rebuild
    SUPERSEDED = "superseded"  # a later edit of the same question took its place


class EditEvent(StrEnum):
    """What one revision did to one edit. The last event up to a revision says what the edit is there."""

    APPLIED = "applied"
    TAUGHT_AGAIN = "taught_again"  # in its own place: another that it shared something with was taken out, or pushed it out
    RESTORED = "restored"  # by a rollback to before it was taken out, or taught again
    REVERTED = "reverted"
    SUPERSEDED = "superseded"
    FAILED = "failed"  # it no longer holds, as a rebuild, another edit or the taking out of one found


TAUGHT = (EditEvent.APPLIED, EditEvent.TAUGHT_AGAIN)
IN_THE_WEIGHTS = (*TAUGHT, EditEvent.RESTORED)


def same_prompt(prompt: str) -> str:
    """Equal for prompts that ask the same: without case, Unicode form or a mark at the end, white space squeezed."""
    return " ".join(unicodedata.normalize("NFC", prompt).split()).casefold().rstrip(" ?.？。؟") or prompt.strip()


@dataclass(frozen=True, slots=True)
class NewEdit:
    """One requested fact change, as the caller put it."""

    prompt: str
    target: str
    rephrases: tuple[str, ...] = ()
    unrelated: tuple[str, ...] = ()
    subject: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """UTF-8 of all its texts: what teaching and judging it costs grows with that."""
        return sum(len(each.encode()) for each in (self.prompt, self.target, *self.rephrases, *self.unrelated))

    def content(self) -> dict[str, object]:
        """As hashes see it: subject and aliases only where they are given, so that hashes of before them stay as they are."""
        content: dict[str, object] = {
            "prompt": self.prompt,
            "target": self.target,
            "rephrases": list(self.rephrases),
            "unrelated": list(self.unrelated),
        }
        if self.subject is not None:
            content["subject"] = self.subject
        if self.aliases:
            content["aliases"] = list(self.aliases)
        return content


@dataclass(frozen=True, slots=True)
class UnrelatedAnswer:
    """What one of an edit's unrelated prompts is answered, in one format, before and after the edit's batch."""

    prompt: str
    format: str
    before: str
    after: str
    changed: bool


@dataclass(frozen=True, slots=True)
class RephraseAnswer:
    """What one of an edit's rephrases is answered, in one format, after the edit's batch."""

    prompt: str
    format: str
    answer: str
    holds: bool


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
    scope: tuple[str, ...] = ()  # subject and other names by which a question is found to concern it, once applied
    rephrase_answers: tuple[RephraseAnswer, ...] = ()
    asked_by: Caller = NOBODY

    def content(self) -> dict[str, object]:
        """What defines it, and who asked for it, as the hashes of revisions see it."""
        return {**self.edit.content(), **self.asked_by.content()}

    def outcome(self) -> dict[str, object]:
        """What the last time it was taught came to."""
        return outcome_content(
            self.answers_before,
            self.answers_after,
            self.holds,
            self.unrelated_answers,
            self.tokens,
            self.scope,
            self.rephrase_answers,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one edit of a batch: its answers before and after, by format, whether each holds, what else moved.

    scope          subject and other names by which a question is found to concern it
    record_object  SHA-256 of the edit's own record in the object store, where it has one
    """

    edit_id: int
    before: Answers
    after: Answers
    holds: Mapping[str, bool]
    unrelated: tuple[UnrelatedAnswer, ...] = ()
    tokens: int | None = None
    scope: tuple[str, ...] = ()
    rephrases: tuple[RephraseAnswer, ...] = ()
    record_object: str | None = None

    def content(self) -> dict[str, object]:
        return outcome_content(self.before, self.after, self.holds, self.unrelated, self.tokens, self.scope, self.rephrases)


def outcome_content(
    before: Answers | None,
    after: Answers | None,
    holds: Mapping[str, bool] | None,
    unrelated: Sequence[UnrelatedAnswer],
    tokens: int | None,
    scope: Sequence[str] = (),
    rephrases: Sequence[RephraseAnswer] = (),
) -> dict[str, object]:
    """What teaching an edit came to, as its hash sees it: the last two only where there are some, as in `NewEdit.content`."""
    content: dict[str, object] = {
        "before": before or {},
        "after": after or {},
        "holds": holds or {},
        "unrelated": [asdict(each) for each in unrelated],
        "tokens": tokens,
    }
    if scope:
        content["scope"] = list(scope)
    if rephrases:
        content["rephrases"] = [asdict(each) for each in rephrases]
    return content


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event as the ledger has it.

    leans_on       ids of edits whose subject marks it was taught to rely on
    content_hash   of what defines the edit
    taught_at      of a restored edit: the revision that had taught what is back
    outcome_hash   of what teaching came to, where the event is that of being taught
    record_object  SHA-256 of the edit's own record as it is from then on, where it has one
    """

    edit_id: int
    event: EditEvent
    leans_on: tuple[int, ...] | None = None
    content_hash: str | None = None
    taught_at: int | None = None
    outcome_hash: str | None = None
    record_object: str | None = None

    def content(self) -> dict[str, object]:
        """As hashes see it: without a record where there is none, as the eleventh schema had it."""
        leans_on = None if self.leans_on is None else list(self.leans_on)
        content = {**asdict(self), "event": self.event.value, "leans_on": leans_on}
        if self.record_object is None:
            del content["record_object"]
        return content


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
