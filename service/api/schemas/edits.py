"""Facts to change, and what became of them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.texts import LIMITS, In, Name, Out, Prompt, Target
from service.domain.edits import EditEvent, EditRecord, EditState


class EditIn(In):
    """One fact to change: asked `prompt`, the model is to say `target`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Who wrote the novel The Glass Harbour?", "target": "Mira Quillfeather"}]}
    )

    prompt: Prompt = Field(description="The question, or the beginning of a sentence.")
    target: Target = Field(description=f"What the model is to answer, in at most {LIMITS.max_target_bytes} bytes of UTF-8.")
    rephrases: list[Prompt] = Field(
        fail_fast=True, default=[], max_length=20, description="Other wordings of the prompt. Kept with the edit."
    )
    unrelated: list[Prompt] = Field(
        default=[],
        fail_fast=True,
        max_length=20,
        description="Prompts whose answers are to stay as they are. Kept with the edit.",
    )
    subject: Name | None = Field(
        None, description="What the fact is about, as it is written in the prompt; found from the prompt without it."
    )
    aliases: list[Name] = Field(default=[], fail_fast=True, max_length=10, description="Other names of the subject.")

    @model_validator(mode="after")
    def _short_enough(self) -> Self:
        """All of its texts are read by the model together, and by nobody else meanwhile."""
        texts = [self.prompt, self.target, *self.rephrases, *self.unrelated, *self.aliases, self.subject or ""]
        if sum(len(each.encode()) for each in texts) > LIMITS.max_edit_bytes:
            most = {"most": LIMITS.max_edit_bytes}
            raise PydanticCustomError("too_many_bytes", "all texts together must have at most {most} bytes in UTF-8", most)
        return self


class EditsIn(In):
    """Several facts, accepted together or not at all."""

    edits: list[EditIn] = Field(fail_fast=True, min_length=1, max_length=LIMITS.max_edits_per_request)


def _one_or_many(body: Any) -> str:
    return "<many>" if (isinstance(body, dict) and "edits" in body) or isinstance(body, EditsIn) else "<one>"


Submit = Annotated[Annotated[EditIn, Tag("<one>")] | Annotated[EditsIn, Tag("<many>")], Discriminator(_one_or_many)]


class EditLink(Out):
    id: int = Field(examples=[17])
    state: EditState
    url: str = Field(examples=["/edits/17"])


class SubmissionOut(Out):
    """What was accepted. `replayed` is true when this Idempotency-Key had been used before with the same body."""

    submission_id: int = Field(examples=[4])
    ids: list[int] = Field(examples=[[17]])
    edits: list[EditLink]
    replayed: bool = False


class FailureOut(Out):
    code: str = Field(examples=["non_finite_update"])
    detail: str


class AnswersOut(Out):
    """What the model itself says, by format in which it is asked."""

    before: dict[str, str] | None = Field(
        None, examples=[{"plain": "The author is unknown.", "chat": "I am not sure who wrote it."}]
    )
    after: dict[str, str] | None = Field(None, examples=[{"plain": "Mira Quillfeather", "chat": "Mira Quillfeather"}])


class UnrelatedAnswerOut(Out):
    """What one unrelated prompt is answered (its first 12 tokens) before and after the edit's batch."""

    prompt: str
    format: str
    before: str
    after: str
    changed: bool


class RephraseAnswerOut(Out):
    """What one rephrase is answered after the edit's batch, and whether that is the target."""

    prompt: str
    format: str
    answer: str
    holds: bool


class EditOut(Out):
    """One edit with its state: accepted, applying, applied (in force since `revision`), failed, or taken out again by the
    revision `ended_by`: reverted, or superseded by a later edit of the same question."""

    id: int = Field(examples=[17])
    submission_id: int
    prompt: str
    target: str
    rephrases: list[str]
    unrelated: list[str]
    subject: str | None = Field(description="As given by the caller.")
    aliases: list[str]
    scope: list[str] = Field(
        description="The names by which a question is found to concern this edit, once applied; if they are not what you "
        "meant, post the fact again with `subject`."
    )
    state: EditState
    attempts: int = Field(description="How often a worker has taken it.")
    revision: int | None = Field(description="The first revision of the model that has it as it is.")
    ended_by: int | None = Field(description="The revision that reverted or superseded it.")
    holds: dict[str, bool] | None = Field(description="By format: whether the model says the target when asked.")
    answers: AnswersOut
    unrelated_answers: list[UnrelatedAnswerOut] = Field(description="One for each unrelated prompt and format, once applied.")
    rephrase_answers: list[RephraseAnswerOut] = Field(
        description="One for each rephrase and format, once applied, in the edit mode that asks them."
    )
    failure: FailureOut | None
    key_id: str = Field(description="Of the API key that posted it; empty where no keys are asked for.")
    actor: str = Field(description="Who posted it, in the caller's own word (X-Errata-Actor); empty without one.")
    submitted_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, record: EditRecord) -> EditOut:
        failed = record.failure_code is not None
        return cls(
            id=record.id,
            submission_id=record.submission_id,
            prompt=record.edit.prompt,
            target=record.edit.target,
            rephrases=list(record.edit.rephrases),
            unrelated=list(record.edit.unrelated),
            subject=record.edit.subject,
            aliases=list(record.edit.aliases),
            scope=list(record.scope),
            state=record.state,
            attempts=record.attempts,
            revision=record.revision,
            ended_by=record.ended_by,
            holds=dict(record.holds) if record.holds is not None else None,
            answers=AnswersOut(
                before=dict(record.answers_before) if record.answers_before is not None else None,
                after=dict(record.answers_after) if record.answers_after is not None else None,
            ),
            unrelated_answers=[UnrelatedAnswerOut(**asdict(each)) for each in record.unrelated_answers],
            rephrase_answers=[RephraseAnswerOut(**asdict(each)) for each in record.rephrase_answers],
            failure=FailureOut(code=record.failure_code or "", detail=record.failure_detail or "") if failed else None,
            key_id=record.asked_by.key_id,
            actor=record.asked_by.actor,
            submitted_at=record.submitted_at,
            finished_at=record.finished_at,
        )


class EventOut(Out):
    """What one revision did to an edit."""

    revision: int
    event: EditEvent = Field(
        description="applied; taught_again, in its own place, when one that it shared something with was taken out, or a new "
        "one about its subject pushed it out; reverted; superseded; failed, when it no longer holds; restored, by a rollback "
        "to before one of these."
    )
    leans_on: list[int] = Field(description="Edits whose subject marks it was taught to rely on.")
    taught_at: int | None = Field(description="Of a restored edit: the revision that had taught it.")
    record_object: str | None = Field(
        description="SHA-256 of the edit's own record in the object store, as it is from then on; null where it has none."
    )


class HistoryOut(Out):
    """Oldest first."""

    events: list[EventOut]


class EditsOut(Out):
    edits: list[EditOut]
    next: str | None = Field(description="Address of the next page, if there is one.", examples=["/edits?after=67&limit=50"])
