"""Taking back: operations, what each revision did to which edit, checkpoints; and what defines an edit cannot be changed.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = "'base', 'warmup', 'edit'"
MORE_KINDS = KINDS + ", 'subtract', 'rollback', 'rebuild'"
STATES = "'accepted', 'applying', 'applied', 'failed'"
MORE_STATES = STATES + ", 'reverted', 'superseded'"
DEFINING = ("id", "submission_id", "prompt", "target", "rephrases", "unrelated", "submitted_at")


def upgrade() -> None:
    _create_operations()
    _create_events()
    op.create_table(
        "checkpoints",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["revision"], ["revisions.number"], name=op.f("fk_checkpoints_revision")),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_checkpoints")),
    )
    op.add_column("batches", sa.Column("tries", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("statistics", sa.Column("modules", sa.Integer(), nullable=True))
    _extend_revisions()
    _extend_edits()
    _refuse_more_changes()


def _create_operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("submission_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("edit_id", sa.BigInteger(), nullable=True),
        sa.Column("to_revision", sa.BigInteger(), nullable=True),
        sa.Column("without", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("after_edit", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("failure_code", sa.String(length=64), nullable=True),
        sa.Column("failure_detail", sa.Text(), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('subtract', 'rollback', 'rebuild')", name=op.f("ck_operations_kind")),
        sa.CheckConstraint("state IN ('accepted', 'applying', 'applied', 'failed')", name=op.f("ck_operations_state")),
        sa.CheckConstraint("(state = 'applied') = (revision IS NOT NULL)", name=op.f("ck_operations_applied_has_revision")),
        sa.CheckConstraint("(state = 'failed') = (failure_code IS NOT NULL)", name=op.f("ck_operations_failed_has_reason")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_operations_submission_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        sa.UniqueConstraint("submission_id", name=op.f("uq_operations_submission_id")),
    )
    pending = sa.text("state IN ('accepted', 'applying')")
    op.create_index("ix_operations_pending", "operations", ["id"], unique=False, postgresql_where=pending)


def _create_events() -> None:
    """With an event for every edit that is applied: until now nothing could be taken back."""
    op.create_table(
        "edit_events",
        sa.Column("edit_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("leans_on", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("content_hash", sa.String(length=64), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "event IN ('applied', 'restored', 'reverted', 'superseded', 'failed')", name=op.f("ck_edit_events_event")
        ),
        sa.ForeignKeyConstraint(["edit_id"], ["edits.id"], name=op.f("fk_edit_events_edit_id")),
        sa.ForeignKeyConstraint(["revision"], ["revisions.number"], name=op.f("fk_edit_events_revision")),
        sa.PrimaryKeyConstraint("edit_id", "revision", name=op.f("pk_edit_events")),
    )
    op.create_index(op.f("ix_edit_events_revision"), "edit_events", ["revision"], unique=False)
    op.execute("""
        INSERT INTO edit_events (edit_id, revision, event, at)
        SELECT edits.id, edits.revision, 'applied', revisions.created_at
        FROM edits JOIN revisions ON revisions.number = edits.revision WHERE edits.state = 'applied'
    """)


def _extend_revisions() -> None:
    op.add_column("revisions", sa.Column("source", sa.BigInteger(), nullable=True))
    op.add_column("revisions", sa.Column("operation_id", sa.BigInteger(), nullable=True))
    for name in ("actor", "reason"):
        op.add_column("revisions", sa.Column(name, sa.Text(), nullable=True))
    for name in ("events_hash", "statistics_hash"):
        op.add_column("revisions", sa.Column(name, sa.String(length=64), nullable=True))
    op.create_foreign_key(op.f("fk_revisions_source"), "revisions", "revisions", ["source"], ["number"])
    op.create_foreign_key(op.f("fk_revisions_operation_id"), "revisions", "operations", ["operation_id"], ["id"])
    op.create_unique_constraint(op.f("uq_revisions_operation_id"), "revisions", ["operation_id"])
    op.drop_constraint(op.f("ck_revisions_kind"), "revisions")
    op.create_check_constraint(op.f("ck_revisions_kind"), "revisions", f"kind IN ({MORE_KINDS})")
    source = "(kind = 'rollback') = (source IS NOT NULL)"
    op.create_check_constraint(op.f("ck_revisions_rollback_has_source"), "revisions", source)


def _extend_edits() -> None:
    op.add_column("edits", sa.Column("ended_by", sa.BigInteger(), nullable=True))
    op.add_column("edits", sa.Column("tokens", sa.Integer(), nullable=True))
    op.add_column("edits", sa.Column("prompt_hash", sa.String(length=64), nullable=True))
    op.create_foreign_key(op.f("fk_edits_ended_by"), "edits", "revisions", ["ended_by"], ["number"])
    for name in ("state", "applied_has_revision"):
        op.drop_constraint(op.f(f"ck_edits_{name}"), "edits")
    op.create_check_constraint(op.f("ck_edits_state"), "edits", f"state IN ({MORE_STATES})")
    has_revision = "(state IN ('applied', 'reverted', 'superseded')) = (revision IS NOT NULL)"
    op.create_check_constraint(op.f("ck_edits_applied_has_revision"), "edits", has_revision)
    ended = "(state IN ('reverted', 'superseded')) = (ended_by IS NOT NULL)"
    op.create_check_constraint(op.f("ck_edits_ended_has_revision"), "edits", ended)
    _hash_prompts()
    where = sa.text("state = 'applied'")
    op.create_index("ix_edits_applied_prompt", "edits", ["prompt_hash"], unique=False, postgresql_where=where)


def _hash_prompts() -> None:
    """In Python, since Postgres folds case otherwise."""
    connection = op.get_bind()
    known = connection.execute(sa.text("SELECT id, prompt FROM edits")).all()
    rows = [
        {"of": each.id, "hash": hashlib.sha256(" ".join(each.prompt.split()).casefold().encode()).hexdigest()} for each in known
    ]
    if rows:
        connection.execute(sa.text("UPDATE edits SET prompt_hash = :hash WHERE id = :of"), rows)


def _refuse_more_changes() -> None:
    op.execute("""
        CREATE TRIGGER edit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON edit_events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER edits_kept BEFORE DELETE OR TRUNCATE ON edits
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in DEFINING)
    op.execute(f"""
        CREATE TRIGGER edits_as_submitted BEFORE UPDATE ON edits
        FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION refuse_change()
    """)


def downgrade() -> None:
    """Refused by the checks below once something has been taken back: the older schema cannot say so."""
    for name in ("edits_as_submitted", "edits_kept"):
        op.execute(f"DROP TRIGGER {name} ON edits")
    op.drop_index("ix_edits_applied_prompt", table_name="edits", postgresql_where=sa.text("state = 'applied'"))
    for name in ("state", "applied_has_revision", "ended_has_revision"):
        op.drop_constraint(op.f(f"ck_edits_{name}"), "edits")
    op.create_check_constraint(op.f("ck_edits_state"), "edits", f"state IN ({STATES})")
    op.create_check_constraint(op.f("ck_edits_applied_has_revision"), "edits", "(state = 'applied') = (revision IS NOT NULL)")
    for name in ("prompt_hash", "tokens", "ended_by"):
        op.drop_column("edits", name)
    for name in ("kind", "rollback_has_source"):
        op.drop_constraint(op.f(f"ck_revisions_{name}"), "revisions")
    op.create_check_constraint(op.f("ck_revisions_kind"), "revisions", f"kind IN ({KINDS})")
    for name in ("statistics_hash", "events_hash", "reason", "actor", "operation_id", "source"):
        op.drop_column("revisions", name)
    op.drop_column("statistics", "modules")
    op.drop_column("batches", "tries")
    op.drop_table("checkpoints")
    op.drop_table("edit_events")
    op.drop_table("operations")
