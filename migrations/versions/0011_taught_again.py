"""Edits that are taught again when another is taken out; what teaching came to is hashed; requests cannot be changed either.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

EVENTS = "'applied', 'restored', 'reverted', 'superseded', 'failed'"
ASKED = ("id", "submission_id", "kind", "edit_id", "to_revision", "without", "actor", "reason", "after_edit", "accepted_at")


def upgrade() -> None:
    op.add_column("edit_events", sa.Column("taught_at", sa.BigInteger(), nullable=True))
    op.add_column("edit_events", sa.Column("outcome_hash", sa.String(length=64), nullable=True))
    op.create_foreign_key(op.f("fk_edit_events_taught_at"), "edit_events", "revisions", ["taught_at"], ["number"])
    op.drop_column("edit_events", "at")  # the revision's own time
    op.drop_constraint(op.f("ck_edit_events_event"), "edit_events")
    op.create_check_constraint(op.f("ck_edit_events_event"), "edit_events", f"event IN ({EVENTS}, 'taught_again')")
    _refuse_more_changes()


def _refuse_more_changes() -> None:
    op.execute("""
        CREATE TRIGGER submissions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON submissions
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    for table in ("operations", "batches"):
        op.execute(f"""
            CREATE TRIGGER {table}_kept BEFORE DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in ASKED)
    op.execute(f"""
        CREATE TRIGGER operations_as_asked BEFORE UPDATE ON operations
        FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION refuse_change()
    """)


def downgrade() -> None:
    """Refused by the check below once an edit was taught again: the older schema cannot say so."""
    op.execute("DROP TRIGGER operations_as_asked ON operations")
    for table in ("operations", "batches"):
        op.execute(f"DROP TRIGGER {table}_kept ON {table}")
    op.execute("DROP TRIGGER submissions_append_only ON submissions")
    op.drop_constraint(op.f("ck_edit_events_event"), "edit_events")
    op.create_check_constraint(op.f("ck_edit_events_event"), "edit_events", f"event IN ({EVENTS})")
    at = sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
    op.add_column("edit_events", at)
    op.drop_column("edit_events", "outcome_hash")
    op.drop_column("edit_events", "taught_at")
