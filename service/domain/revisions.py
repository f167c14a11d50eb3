"""A revision of the model, and the hash chain that ties it to all before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from service.domain.callers import Caller
from service.domain.edits import EventRecord

GENESIS_HASH = "0" * 64


class RevisionKind(StrEnum):
    BASE = "base"  # revision 0: the model as it was loaded
    WARMUP = "warmup"
    EDIT = "edit"
    SUBTRACT = "subtract"  # one edit's own share taken out
    ROLLBACK = "rollback"  # the state of an earlier revision exactly
    REBUILD = "rebuild"  # everything that is applied once more, without some edits


@dataclass(frozen=True, slots=True)
class ModuleNorms:
    """Of one edited module at one revision: ||Delta||, cosine with the update before, ||W - W0||."""

    update_norm: float
    cosine: float | None
    distance: float


@dataclass(frozen=True, slots=True)
class StatisticsSummary:
    """Of one weight shape at one revision. The tensors are in the object store."""

    d_in: int
    d_out: int
    n: int
    mean_norm: float
    drift: float
    condition: float | None
    modules: int | None = None  # how many modules of this shape feed it: n grows by so many an answer token


@dataclass(frozen=True, slots=True)
class NewRevision:
    """What a worker hands to the commit point."""

    number: int
    kind: RevisionKind
    update_object: str | None  # SHA-256 of the change, of a rebuild's whole state; None where the weights' bytes are known
    statistics_object: str | None
    fingerprint: str  # SHA-256 over the float32 masters of all edited modules
    config_hash: str
    norms: Mapping[str, ModuleNorms]
    statistics: tuple[StatisticsSummary, ...]
    passes: int
    rows: int  # rows of the factors: answer tokens over all passes
    source: int | None = None  # of a rollback: the revision whose state it is
    checkpoint: str | None = None  # SHA-256 of the whole state, where it is stored as well
    checkpoint_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as the ledger has it."""

    number: int
    kind: RevisionKind
    batch_id: int | None
    epoch: int
    update_object: str | None
    statistics_object: str | None
    fingerprint: str
    config_hash: str
    norms: Mapping[str, ModuleNorms]
    passes: int
    rows: int
    edit_ids: tuple[int, ...]
    edits_hash: str
    previous_hash: str
    row_hash: str
    created_at: datetime
    source: int | None = None
    operation_id: int | None = None
    actor: str | None = None
    reason: str | None = None
    events_hash: str | None = None
    statistics_hash: str | None = None
    asked_by: tuple[Caller, ...] = ()  # of its edits, or of its operation


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no white space, UTF-8: the same bytes for the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def content_hash(value: object) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def edits_hash(edits: Iterable[tuple[int, Mapping[str, object]]]) -> str:
    """Over ids and contents of a revision's edits, so that changing one of them later breaks the chain."""
    return content_hash([[edit_id, content] for edit_id, content in edits])


def statistics_hash(statistics: Iterable[StatisticsSummary]) -> str:
    return content_hash(sorted([asdict(each) for each in statistics], key=lambda each: (each["d_in"], each["d_out"])))


def events_hash(events: Iterable[EventRecord]) -> str:
    """Over everything that is recorded of what a revision did to edits."""
    return content_hash([each.content() for each in sorted(events, key=lambda each: each.edit_id)])


def earlier_events_hash(events: Iterable[EventRecord]) -> str:
    """As the third to the tenth schema had it: over what was done to which edit alone."""
    return content_hash([[each.edit_id, each.event.value] for each in sorted(events, key=lambda each: each.edit_id)])


def row_hash(revision: Revision) -> str:
    """sha256(previous hash + canonical JSON of everything in the row)."""
    content: dict[str, object] = {
        "number": revision.number,
        "kind": revision.kind.value,
        "batch_id": revision.batch_id,
        "epoch": revision.epoch,
        "update_object": revision.update_object,
        "statistics_object": revision.statistics_object,
        "fingerprint": revision.fingerprint,
        "config_hash": revision.config_hash,
        "edit_ids": list(revision.edit_ids),
        "edits_hash": revision.edits_hash,
        "created_at": revision.created_at.astimezone(UTC).isoformat(),
    }
    if revision.events_hash is not None:  # since the third schema; rows of before keep their hashes
        content |= {
            "passes": revision.passes,
            "rows": revision.rows,
            "norms": {name: asdict(norms) for name, norms in revision.norms.items()},
            "source": revision.source,
            "operation_id": revision.operation_id,
            "actor": revision.actor,
            "reason": revision.reason,
            "events_hash": revision.events_hash,
            "statistics_hash": revision.statistics_hash,
        }
    if revision.asked_by:  # since the thirteenth schema
        content["asked_by"] = [asdict(each) for each in revision.asked_by]
    return hashlib.sha256(revision.previous_hash.encode() + canonical(content)).hexdigest()
