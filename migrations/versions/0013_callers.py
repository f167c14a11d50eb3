"""Who asked: the API key's id and the caller's own word on submissions, edits, operations and revisions.

Idempotency keys are each caller's own; API keys have an owner and an end; edits of different keys are found apart.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

EDIT = ("id", "submission_id", "prompt", "target", "rephrases", "unrelated", "submitted_at", "subject", "aliases")
OPERATION = ("id", "submission_id", "kind", "edit_id", "to_revision", "without", "actor", "reason", "after_edit", "accepted_at")
ACCEPTED = sa.text("state = 'accepted'")


def upgrade() -> None:
    for table in ("submissions", "edits"):
        op.add_column(table, _key_id())
        op.add_column(table, sa.Column("actor", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("operations", _key_id())
    callers = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("revisions", sa.Column("asked_by", callers, server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.add_column("api_keys", sa.Column("owner", sa.String(length=16), nullable=True))
    op.execute("UPDATE api_keys SET owner = id")
    op.alter_column("api_keys", "owner", nullable=False)
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint("uq_submissions_idempotency_key", "submissions")
    op.create_unique_constraint("uq_submissions_key_id_idempotency_key", "submissions", ["key_id", "idempotency_key"])
    op.create_index("ix_edits_accepted_key", "edits", ["key_id", "id"], postgresql_where=ACCEPTED)
    _refuse_changes("edits_as_submitted", "edits", (*EDIT, "key_id", "actor"))
    _refuse_changes("operations_as_asked", "operations", (*OPERATION, "key_id"))


def _key_id() -> sa.Column[str]:
    return sa.Column("key_id", sa.String(length=16), server_default=sa.text("''"), nullable=False)


def _refuse_changes(trigger: str, table: str, columns: tuple[str, ...]) -> None:
    """In the place of the trigger that is there."""
    op.execute(f"DROP TRIGGER {trigger} ON {table}")
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in columns)
    op.execute(f"""
        CREATE TRIGGER {trigger} BEFORE UPDATE ON {table}
        FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION refuse_change()
    """)


def downgrade() -> None:
    """Refused by the checks below, which go with their columns, once anybody is recorded: hashes speak of them."""
    op.create_check_constraint(op.f("ck_edits_unused"), "edits", "key_id = '' AND actor = ''")
    op.create_check_constraint(op.f("ck_revisions_unused"), "revisions", "asked_by = '[]'")
    _refuse_changes("operations_as_asked", "operations", OPERATION)
    _refuse_changes("edits_as_submitted", "edits", EDIT)
    op.drop_index("ix_edits_accepted_key", "edits")
    op.drop_constraint("uq_submissions_key_id_idempotency_key", "submissions")
    op.create_unique_constraint("uq_submissions_idempotency_key", "submissions", ["idempotency_key"])
    op.drop_column("api_keys", "expires_at")
    op.drop_column("api_keys", "owner")
    op.drop_column("revisions", "asked_by")
    op.drop_column("operations", "key_id")
    for table in ("edits", "submissions"):
        op.drop_column(table, "actor")
        op.drop_column(table, "key_id")
