"""The ledger: submissions, edits, batches, revisions, statistics, writer lease.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


APPEND_ONLY = ("revisions", "statistics")


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('applying', 'committed', 'split', 'failed')", name=op.f("ck_batches_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_applying", "batches", ["id"], unique=False, postgresql_where=sa.text("state = 'applying'"))
    op.create_table(
        "submissions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_submissions_idempotency_key")),
    )
    op.create_table(
        "writer_lease",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_writer_lease_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writer_lease")),
    )
    op.create_table(
        "revisions",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("update_object", sa.String(length=64), nullable=True),
        sa.Column("statistics_object", sa.String(length=64), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("config_hash", sa.String(length=64), nullable=False),
        sa.Column("norms", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("passes", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("edit_ids", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("edits_hash", sa.String(length=64), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('base', 'warmup', 'edit')", name=op.f("ck_revisions_kind")),
        sa.CheckConstraint("number >= 0", name=op.f("ck_revisions_number")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_revisions_batch_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_revisions")),
        sa.UniqueConstraint("batch_id", name=op.f("uq_revisions_batch_id")),
        sa.UniqueConstraint("previous_hash", name=op.f("uq_revisions_previous_hash")),
        sa.UniqueConstraint("row_hash", name=op.f("uq_revisions_row_hash")),
    )
    op.create_table(
        "edits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("submission_id", sa.BigInteger(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("rephrases", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("unrelated", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("answers_before", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("answers_after", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("holds", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("failure_code", sa.String(length=64), nullable=True),
        sa.Column("failure_detail", sa.Text(), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'applied') = (revision IS NOT NULL)", name=op.f("ck_edits_applied_has_revision")),
        sa.CheckConstraint("(state = 'failed') = (failure_code IS NOT NULL)", name=op.f("ck_edits_failed_has_reason")),
        sa.CheckConstraint("state IN ('accepted', 'applying', 'applied', 'failed')", name=op.f("ck_edits_state")),
        sa.CheckConstraint(
            "state NOT IN ('applying', 'applied') OR batch_id IS NOT NULL", name=op.f("ck_edits_applying_has_batch")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_edits_batch_id")),
        sa.ForeignKeyConstraint(["revision"], ["revisions.number"], name=op.f("fk_edits_revision")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_edits_submission_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edits")),
    )
    op.create_index(op.f("ix_edits_batch_id"), "edits", ["batch_id"], unique=False)
    op.create_index(
        "ix_edits_pending", "edits", ["id"], unique=False, postgresql_where=sa.text("state IN ('accepted', 'applying')")
    )
    op.create_index(op.f("ix_edits_revision"), "edits", ["revision"], unique=False)
    op.create_index("ix_edits_state_id", "edits", ["state", "id"], unique=False)
    op.create_index(op.f("ix_edits_submission_id"), "edits", ["submission_id"], unique=False)
    op.create_table(
        "statistics",
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("d_in", sa.Integer(), nullable=False),
        sa.Column("d_out", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("mean_norm", sa.Double(), nullable=False),
        sa.Column("drift", sa.Double(), nullable=False),
        sa.Column("condition", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["revision"], ["revisions.number"], name=op.f("fk_statistics_revision")),
        sa.PrimaryKeyConstraint("revision", "d_in", "d_out", name=op.f("pk_statistics")),
    )
    refuse_changes_to_history()


def refuse_changes_to_history() -> None:
    """The ledger is append-only; the database itself says so."""
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME;
        END $$
    """)
    for table in APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)


def downgrade() -> None:
    op.drop_table("statistics")
    op.drop_index(op.f("ix_edits_submission_id"), table_name="edits")
    op.drop_index("ix_edits_state_id", table_name="edits")
    op.drop_index(op.f("ix_edits_revision"), table_name="edits")
    op.drop_index("ix_edits_pending", table_name="edits", postgresql_where=sa.text("state IN ('accepted', 'applying')"))
    op.drop_index(op.f("ix_edits_batch_id"), table_name="edits")
    op.drop_table("edits")
    op.drop_table("revisions")
    op.drop_table("writer_lease")
    op.drop_table("submissions")
    op.drop_index("ix_batches_applying", table_name="batches", postgresql_where=sa.text("state = 'applying'"))
    op.drop_table("batches")
    op.execute("DROP FUNCTION refuse_change()")
