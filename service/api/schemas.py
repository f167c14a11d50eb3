"""What comes in and what goes out. Unknown fields are refused; in and out are apart."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from service.domain.edits import EditEvent, EditRecord, EditState
from service.domain.messages import GenerateReply
from service.domain.operations import OperationRecord, OperationState
from service.domain.revisions import ModuleNorms, Revision, StatisticsSummary
from service.settings import Settings

# White space by anybody's reading and control characters: what \s means differs from one dialect of patterns to the next.
_VISIBLE = r"[^\s\x00-\x20\x7f-\xa0\ufeff]"
USABLE = rf"^[^\x00]*{_VISIBLE}[^\x00]*$"


def _usable(text: str) -> str:
    """The text itself. Raises PydanticCustomError for what Postgres cannot store, and for nothing but white space."""
    if "\x00" in text:
        raise PydanticCustomError("forbidden_character", "must not hold the character U+0000")
    if not re.search(_VISIBLE, text):
        raise PydanticCustomError("blank", "must hold something other than white space")
    return text


def _text(most: int) -> Any:
    return Field(min_length=1, max_length=most, json_schema_extra={"pattern": USABLE})


_LIMITS = Settings()
Prompt = Annotated[str, _text(_LIMITS.max_prompt_chars), AfterValidator(_usable)]
Target = Annotated[str, _text(_LIMITS.max_target_chars), AfterValidator(_usable)]
Stop = Annotated[str, Field(min_length=1, max_length=100)]


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(each) for each in value] if any(isinstance(each, float | list) for each in value) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


class In(BaseModel):
    """What comes in: nothing unknown, and everything of the type that it should have."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _one_kind_of_number(cls, values: Any) -> Any:
        """In JSON 2.0 is an integer."""
        return {name: _whole(value) for name, value in values.items()} if isinstance(values, dict) else values


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EditIn(In):
    """One fact to change: asked `prompt`, the model is to say `target`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Who wrote the novel The Glass Harbour?", "target": "Mira Quillfeather"}]}
    )

    prompt: Prompt = Field(description="The question, or the beginning of a sentence.")
    target: Target = Field(description="What the model is to answer.")
    rephrases: list[Prompt] = Field(default=[], max_length=20, description="Other wordings of the prompt. Kept with the edit.")
    unrelated: list[Prompt] = Field(
        default=[], max_length=20, description="Prompts whose answers are to stay as they are. Kept with the edit."
    )


class EditsIn(In):
    """Several facts, accepted together or not at all."""

    edits: list[EditIn] = Field(min_length=1, max_length=_LIMITS.max_edits_per_request)


def _one_or_many(body: Any) -> str:
    return "<many>" if (isinstance(body, dict) and "edits" in body) or isinstance(body, EditsIn) else "<one>"


Submit = Annotated[Annotated[EditIn, Tag("<one>")] | Annotated[EditsIn, Tag("<many>")], Discriminator(_one_or_many)]


class EditLink(_Out):
    id: int = Field(examples=[17])
    state: EditState
    url: str = Field(examples=["/edits/17"])


class SubmissionOut(_Out):
    """What was accepted. `replayed` is true when this Idempotency-Key had been used before with the same body."""

    submission_id: int = Field(examples=[4])
    ids: list[int] = Field(examples=[[17]])
    edits: list[EditLink]
    replayed: bool = False


class FailureOut(_Out):
    code: str = Field(examples=["non_finite_update"])
    detail: str


class AnswersOut(_Out):
    """What the model itself says, by format in which it is asked."""

    before: dict[str, str] | None = Field(
        None, examples=[{"plain": "The author is unknown.", "chat": "I am not sure who wrote it."}]
    )
    after: dict[str, str] | None = Field(None, examples=[{"plain": "Mira Quillfeather", "chat": "Mira Quillfeather"}])


class UnrelatedAnswerOut(_Out):
    """What one unrelated prompt is answered (its first 12 tokens) before and after the edit's batch."""

    prompt: str
    format: str
    before: str
    after: str
    changed: bool


class EditOut(_Out):
    """One edit with its state: accepted, applying, applied (in the weights since `revision`), failed, or taken out again by the
    revision `ended_by`: reverted, or superseded by a later edit of the same prompt."""

    id: int = Field(examples=[17])
    submission_id: int
    prompt: str
    target: str
    rephrases: list[str]
    unrelated: list[str]
    state: EditState
    attempts: int = Field(description="How often a worker has taken it.")
    revision: int | None = Field(description="The first revision of the model that has it as it is.")
    ended_by: int | None = Field(description="The revision that reverted or superseded it.")
    holds: dict[str, bool] | None = Field(description="By format: whether the model says the target when asked.")
    answers: AnswersOut
    unrelated_answers: list[UnrelatedAnswerOut] = Field(description="One for each unrelated prompt and format, once applied.")
    failure: FailureOut | None
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
            failure=FailureOut(code=record.failure_code or "", detail=record.failure_detail or "") if failed else None,
            submitted_at=record.submitted_at,
            finished_at=record.finished_at,
        )


class EventOut(_Out):
    """What one revision did to an edit."""

    revision: int
    event: EditEvent = Field(
        description="applied; taught_again, in its own place, when one that it shared something with was taken out, or a new "
        "one about its subject pushed it out; reverted; superseded; failed, when it no longer holds; restored, by a rollback "
        "to before one of these."
    )
    leans_on: list[int] = Field(description="Edits whose subject marks it was taught to rely on.")
    taught_at: int | None = Field(description="Of a restored edit: the revision that had taught it.")


class HistoryOut(_Out):
    """Oldest first."""

    events: list[EventOut]


class EditsOut(_Out):
    edits: list[EditOut]
    next: str | None = Field(description="Address of the next page, if there is one.", examples=["/edits?after=67&limit=50"])


MIN_REVISION = (
    "Wait until a worker serves at least this revision; 409 at once for one that is neither in the ledger nor the next to come."
)


class GenerateIn(In):
    """A question for the model as it is now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Who wrote the novel The Glass Harbour?", "max_tokens": 32}]}
    )

    prompt: Prompt
    max_tokens: int = Field(64, ge=1, le=_LIMITS.max_new_tokens, description="At most this many tokens are generated.")
    temperature: float = Field(0.0, ge=0, le=5, description="0: the most likely answer, always.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Sample from the likeliest tokens that have this much of the probability."
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="Makes sampled answers repeatable.")
    stop: list[Stop] = Field(default=[], max_length=4, description="Texts that end the answer and are left out of it.")
    stream: bool = Field(False, description="Send the answer as server-sent events while it is made.")
    chat: bool = Field(False, description="Ask through the model's chat template instead of continuing the prompt.")
    min_revision: int = Field(0, ge=0, le=2**62, description=MIN_REVISION)


class Usage(_Out):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, reply: GenerateReply) -> Usage:
        prompt, said = reply.prompt_tokens, reply.completion_tokens
        return cls(prompt_tokens=prompt, completion_tokens=said, total_tokens=prompt + said)


class GenerateOut(_Out):
    text: str = Field(examples=["Mira Quillfeather"])
    revision: int = Field(description="The revision of the model that answered.", examples=[3])
    revisions: list[int] = Field(
        description="All revisions that had a part in it: more than one where weights changed in a long answer.", examples=[[3]]
    )
    finish_reason: Literal["stop", "length"]
    usage: Usage


class RevisionOut(_Out):
    """One committed change of the model."""

    number: int
    kind: str = Field(description="base, warmup, edit, subtract, rollback or rebuild")
    edit_ids: list[int] = Field(description="Edits that it applied, or that it took out or brought back.")
    source: int | None = Field(description="Of a rollback: the revision whose state it is.")
    operation_id: int | None
    actor: str | None = Field(description="Who asked for it, of what takes facts back.")
    reason: str | None
    events_hash: str | None
    statistics_hash: str | None
    fingerprint: str = Field(description="SHA-256 over the float32 masters of the edited weights.")
    update_object: str | None
    statistics_object: str | None
    config_hash: str
    passes: int
    rows: int
    norms: dict[str, ModuleNorms]
    epoch: int
    previous_hash: str
    row_hash: str
    created_at: datetime

    @classmethod
    def of(cls, revision: Revision) -> RevisionOut:
        values = {name: getattr(revision, name) for name in cls.model_fields}
        return cls(
            **{**values, "kind": revision.kind.value, "edit_ids": list(revision.edit_ids), "norms": dict(revision.norms)}
        )


class RevisionsOut(_Out):
    revisions: list[RevisionOut]
    next: str | None


Reason = Annotated[str, _text(1000), AfterValidator(_usable)]
EditId = Annotated[int, Field(ge=1, le=2**62)]


class RollbackIn(In):
    """Back to the state of a revision, exactly."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"to_revision": 12, "reason": "the import of Tuesday was wrong"}]}
    )

    to_revision: int = Field(ge=0, le=2**62)
    reason: Reason | None = None


class RebuildIn(In):
    """Everything that is applied once more, as if these edits had never been."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"without": [17, 18], "reason": "source withdrawn"}]})

    without: list[EditId] = Field(default=[], max_length=10_000)
    reason: Reason | None = None


class OperationOut(_Out):
    """Something that takes facts back: accepted, applying, applied (as `revision`) or failed."""

    id: int = Field(examples=[3])
    kind: str = Field(description="subtract, rollback or rebuild")
    state: OperationState
    edit_id: int | None
    to_revision: int | None
    without: list[int]
    actor: str
    reason: str | None
    revision: int | None = Field(description="The revision that it became.")
    failure: FailureOut | None
    attempts: int
    accepted_at: datetime
    finished_at: datetime | None
    url: str = Field(examples=["/operations/3"])
    replayed: bool = False

    @classmethod
    def of(cls, record: OperationRecord, replayed: bool = False) -> OperationOut:
        asked, failed = record.asked, record.failure_code is not None
        return cls(
            id=record.id,
            kind=asked.kind.value,
            state=record.state,
            edit_id=asked.edit_id,
            to_revision=asked.to_revision,
            without=list(asked.without),
            actor=asked.actor,
            reason=asked.reason,
            revision=record.revision,
            failure=FailureOut(code=record.failure_code or "", detail=record.failure_detail or "") if failed else None,
            attempts=record.attempts,
            accepted_at=record.accepted_at,
            finished_at=record.finished_at,
            url=f"/operations/{record.id}",
            replayed=replayed,
        )


class OperationsOut(_Out):
    operations: list[OperationOut]
    next: str | None


class QueueOut(_Out):
    depth: int = Field(description="Edits accepted or being applied.")
    oldest_pending_age_s: float


class HeadOut(_Out):
    number: int
    kind: str
    fingerprint: str
    row_hash: str
    created_at: datetime


class WriterOut(_Out):
    holder: str
    epoch: int
    lease_running: bool


class WorkerOut(_Out):
    name: str
    pid: int
    state: str
    detail: str
    model: str
    revision: int
    writer: bool
    metrics_port: int
    object_files: int = Field(description="In its object store, as the writer last saw it.")
    object_bytes: int


class StatsOut(_Out):
    queue: QueueOut
    edits_by_state: dict[str, int]
    head: HeadOut | None
    statistics: list[StatisticsSummary] = Field(description="Lifelong-normalisation statistics, one per weight shape.")
    layers: dict[str, ModuleNorms] = Field(
        description="Of the head revision: update norm, cosine with the one before, ||W - W0||."
    )
    writer: WriterOut | None
    workers: list[WorkerOut]


class CheckOut(_Out):
    ok: bool
    detail: str


class ReadyOut(_Out):
    status: Literal["ready", "not_ready"]
    checks: dict[str, CheckOut]
