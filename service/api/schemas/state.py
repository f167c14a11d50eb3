"""How the service is."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.api.schemas.texts import Out
from service.domain.revisions import ModuleNorms, StatisticsSummary


class QueueOut(Out):
    depth: int = Field(description="Edits accepted or being applied.")
    oldest_pending_age_s: float


class HeadOut(Out):
    number: int
    kind: str
    fingerprint: str
    row_hash: str
    created_at: datetime


class WriterOut(Out):
    holder: str
    epoch: int
    lease_running: bool


class WorkerOut(Out):
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
    context_tokens: int = Field(description="How long a question and its answer may be; 0: not known yet.")
    ready_at: int = Field(description="Unix seconds; 0: not yet.")


class StatsOut(Out):
    queue: QueueOut
    edits_by_state: dict[str, int]
    head: HeadOut | None
    statistics: list[StatisticsSummary] = Field(description="Lifelong-normalisation statistics, one per weight shape.")
    layers: dict[str, ModuleNorms] = Field(
        description="Of the head revision: update norm, cosine with the one before, ||W - W0||."
    )
    writer: WriterOut | None
    workers: list[WorkerOut]


class CheckOut(Out):
    ok: bool
    detail: str


class ReadyOut(Out):
    status: Literal["ready", "not_ready"]
    checks: dict[str, CheckOut]
