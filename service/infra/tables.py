"""The ledger's tables. Alembic compares migrations against this metadata."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, length: int | None = None) -> Column[str]:
    """Empty where nothing is known."""
    return Column(name, String(length) if length else Text, nullable=False, server_default=text("''"))


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


# One POST /edits. The unique key, each caller's own, is what makes a repeated request give the first answer again.
submissions = Table(
    "submissions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(64), nullable=False),
    _now("created_at"),
    _text("key_id", 16),
    _text("actor"),
    UniqueConstraint("key_id", "idempotency_key"),
)

# Edits taken together. A batch that was interrupted is taken again as it was.
batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("1")),  # how often a worker has begun it
    _now("started_at"),
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint("state IN ('applying', 'committed', 'split', 'failed')", name="state"),
    Index("ix_batches_applying", "id", postgresql_where=text("state = 'applying'")),
)

# Append-only: the database itself refuses UPDATE and DELETE (see the migration).
revisions = Table(
    "revisions",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("batch_id", BigInteger, ForeignKey("batches.id"), unique=True),
    Column("epoch", BigInteger, nullable=False),
    Column("update_object", String(64)),
    Column("statistics_object", String(64)),
    Column("fingerprint", String(64), nullable=False),
    Column("config_hash", String(64), nullable=False),
    Column("norms", JSONB, nullable=False),
    Column("passes", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("edit_ids", JSONB, nullable=False),
    Column("edits_hash", String(64), nullable=False),
    Column("previous_hash", String(64), nullable=False, unique=True),  # one child each: the chain cannot fork
    Column("row_hash", String(64), nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # Since the third schema; in the row's hash where there is something in them.
    Column("source", BigInteger, ForeignKey("revisions.number")),  # a rollback's: the revision whose state it is
    Column("operation_id", BigInteger, ForeignKey("operations.id"), unique=True),
    Column("actor", Text),
    Column("reason", Text),
    Column("events_hash", String(64)),
    Column("statistics_hash", String(64)),
    Column("asked_by", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # callers; in the hash where there are some
    CheckConstraint("number >= 0", name="number"),
    CheckConstraint("kind IN ('base', 'warmup', 'edit', 'subtract', 'rollback', 'rebuild')", name="kind"),
    CheckConstraint("(kind = 'rollback') = (source IS NOT NULL)", name="rollback_has_source"),
)

# One row a revision and weight shape. Append-only.
statistics = Table(
    "statistics",
    metadata,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True),
    Column("d_in", Integer, primary_key=True),
    Column("d_out", Integer, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("mean_norm", Double, nullable=False),
    Column("drift", Double, nullable=False),
    Column("condition", Double),
    Column("modules", Integer),  # how many modules of this shape feed it
)

edits = Table(
    "edits",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("submission_id", BigInteger, ForeignKey("submissions.id"), nullable=False, index=True),
    Column("prompt", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("rephrases", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("unrelated", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("subject", Text),  # as the caller gave it
    Column("aliases", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("batch_id", BigInteger, ForeignKey("batches.id"), index=True),
    Column("revision", BigInteger, ForeignKey("revisions.number"), index=True),
    Column("ended_by", BigInteger, ForeignKey("revisions.number")),  # the revision that reverted or superseded it
    Column("tokens", Integer),  # answer tokens that the statistics have seen of it
    Column("prompt_hash", String(64)),  # equal for prompts that ask the same
    Column("answers_before", JSONB(none_as_null=True)),
    Column("answers_after", JSONB(none_as_null=True)),
    Column("holds", JSONB(none_as_null=True)),
    Column("unrelated_answers", JSONB(none_as_null=True)),
    Column("rephrase_answers", JSONB(none_as_null=True)),
    Column("scope", JSONB(none_as_null=True)),  # the names by which a question is found to concern it, once applied
    Column("failure_code", String(64)),
    Column("failure_detail", Text),
    _now("submitted_at"),
    Column("finished_at", DateTime(timezone=True)),
    _text("key_id", 16),
    _text("actor"),
    CheckConstraint("state IN ('accepted', 'applying', 'applied', 'failed', 'reverted', 'superseded')", name="state"),
    CheckConstraint("(state IN ('applied', 'reverted', 'superseded')) = (revision IS NOT NULL)", name="applied_has_revision"),
    CheckConstraint("(state IN ('reverted', 'superseded')) = (ended_by IS NOT NULL)", name="ended_has_revision"),
    CheckConstraint("(state = 'failed') = (failure_code IS NOT NULL)", name="failed_has_reason"),
    CheckConstraint("state NOT IN ('applying', 'applied') OR batch_id IS NOT NULL", name="applying_has_batch"),
    Index("ix_edits_pending", "id", postgresql_where=text("state IN ('accepted', 'applying')")),
    Index("ix_edits_state_id", "state", "id"),
    Index("ix_edits_accepted_key", "key_id", "id", postgresql_where=text("state = 'accepted'")),
    Index("ix_edits_applied_prompt", "prompt_hash", postgresql_where=text("state = 'applied'")),
)

# What each revision did to which edit: what was applied at any revision follows. Append-only.
edit_events = Table(
    "edit_events",
    metadata,
    Column("edit_id", BigInteger, ForeignKey("edits.id"), primary_key=True),
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True, index=True),
    Column("event", String(16), nullable=False),
    Column("leans_on", JSONB(none_as_null=True)),  # edits whose subject marks it was taught to rely on
    Column("content_hash", String(64)),  # of what defines the edit
    Column("taught_at", BigInteger, ForeignKey("revisions.number")),  # of what is restored: the revision that had taught it
    Column("outcome_hash", String(64)),  # of what teaching it came to
    Column("record_object", String(64)),  # SHA-256 of the edit's own record as it is from then on
    CheckConstraint("event IN ('applied', 'taught_again', 'restored', 'reverted', 'superseded', 'failed')", name="event"),
)

# Taking back: what was asked for, by whom and why.
operations = Table(
    "operations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("submission_id", BigInteger, ForeignKey("submissions.id"), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("edit_id", BigInteger),
    Column("to_revision", BigInteger),
    Column("without", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Column("after_edit", BigInteger, nullable=False),  # edits up to this one were accepted before it
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("revision", BigInteger),  # which names the operation in turn
    Column("failure_code", String(64)),
    Column("failure_detail", Text),
    _now("accepted_at"),
    Column("finished_at", DateTime(timezone=True)),
    _text("key_id", 16),
    CheckConstraint("kind IN ('subtract', 'rollback', 'rebuild')", name="kind"),
    CheckConstraint("state IN ('accepted', 'applying', 'applied', 'failed')", name="state"),
    CheckConstraint("(state = 'applied') = (revision IS NOT NULL)", name="applied_has_revision"),
    CheckConstraint("(state = 'failed') = (failure_code IS NOT NULL)", name="failed_has_reason"),
    Index("ix_operations_pending", "id", postgresql_where=text("state IN ('accepted', 'applying')")),
)

# Whole states, so that a restart does not begin at the base model. A cache: no part of the chain, and pruned.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True, autoincrement=False),
    Column("object", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    _now("created_at"),
)

# The one worker that may write, and since which epoch. Exactly one row.
writer_lease = Table(
    "writer_lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("id = 1", name="single"),
)

# Which ledger this is. At most one row; no part of a backup, so that what is restored is a ledger of its own.
ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("identity", String(32), nullable=False),
    _now("created_at"),
    CheckConstraint("id = 1", name="single"),
)

# Who may do what. The secret itself is shown once and kept nowhere. owner: the first key of those that took each other's place.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("scopes", JSONB, nullable=False),
    _now("created_at"),
    Column("revoked_at", DateTime(timezone=True)),
    Column("owner", String(16), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
)
