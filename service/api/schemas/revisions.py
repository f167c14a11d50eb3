"""Revisions, and operations that take them back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from service.api.schemas.edits import FailureOut
from service.api.schemas.texts import MOST_WITHOUT, In, Out, text, usable
from service.domain.operations import OperationRecord, OperationState
from service.domain.revisions import ModuleNorms, Revision


class CallerOut(Out):
    """Who asked: the API key, and the caller's own word beside it; empty where there is none."""

    key_id: str
    actor: str


class RevisionOut(Out):
    """One committed change of the model."""

    number: int
    kind: str = Field(description="base, warmup, edit, subtract, rollback or rebuild")
    edit_ids: list[int] = Field(description="Edits that it applied, or that it took out or brought back.")
    source: int | None = Field(description="Of a rollback: the revision whose state it is.")
    operation_id: int | None
    actor: str | None = Field(description="Who asked for it, of what takes facts back.")
    reason: str | None
    asked_by: list[CallerOut] = Field(description="Who asked for its edits, or for its operation.")
    events_hash: str | None
    statistics_hash: str | None
    fingerprint: str = Field(description="SHA-256 of the model and of everything that is in force in it.")
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
        values |= {"kind": revision.kind.value, "edit_ids": list(revision.edit_ids), "norms": dict(revision.norms)}
        return cls(**{**values, "asked_by": [CallerOut(key_id=each.key_id, actor=each.actor) for each in revision.asked_by]})


class RevisionsOut(Out):
    revisions: list[RevisionOut]
    next: str | None


Reason = Annotated[str, text(1000), AfterValidator(usable)]
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

    without: list[EditId] = Field(fail_fast=True, default=[], max_length=MOST_WITHOUT)
    reason: Reason | None = None


class OperationOut(Out):
    """Something that takes facts back: accepted, applying, applied (as `revision`) or failed."""

    id: int = Field(examples=[3])
    kind: str = Field(description="subtract, rollback or rebuild")
    state: OperationState
    edit_id: int | None
    to_revision: int | None
    without: list[int]
    key_id: str = Field(description="Of the API key that asked for it; empty where no keys are asked for.")
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
            key_id=asked.key_id,
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


class OperationsOut(Out):
    operations: list[OperationOut]
    next: str | None
