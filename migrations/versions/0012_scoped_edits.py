"""Edits with a subject: its names, as given and as found; what rephrases were answered; records of edits' own.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import hashlib
import unicodedata

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

DEFINING = ("id", "submission_id", "prompt", "target", "rephrases", "unrelated", "submitted_at")
MORE_DEFINING = (*DEFINING, "subject", "aliases")


def upgrade() -> None:
    names = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("edits", sa.Column("subject", sa.Text(), nullable=True))
    op.add_column("edits", sa.Column("aliases", names, server_default=sa.text("'[]'::jsonb"), nullable=False))
    for name in ("rephrase_answers", "scope"):
        found = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
        op.add_column("edits", sa.Column(name, found, nullable=True))
    op.add_column("edit_events", sa.Column("record_object", sa.String(length=64), nullable=True))
    _refuse_changes_to(MORE_DEFINING)
    _hash_prompts_again()


def _hash_prompts_again() -> None:
    """From now on prompts are the same without their Unicode form and a mark at the end as well."""
    connection = op.get_bind()
    for edit_id, prompt in connection.execute(sa.text("SELECT id, prompt FROM edits")).all():
        asked = " ".join(unicodedata.normalize("NFC", prompt).split()).casefold().rstrip(" ?.？。؟") or prompt.strip()
        hashed = hashlib.sha256(asked.encode()).hexdigest()
        connection.execute(sa.text("UPDATE edits SET prompt_hash = :hashed WHERE id = :id"), {"hashed": hashed, "id": edit_id})


def _refuse_changes_to(defining: tuple[str, ...]) -> None:
    """In the place of the trigger that is there."""
    op.execute("DROP TRIGGER edits_as_submitted ON edits")
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in defining)
    op.execute(f"""
        CREATE TRIGGER edits_as_submitted BEFORE UPDATE ON edits
        FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION refuse_change()
    """)


def downgrade() -> None:
    """Refused by the checks below, which go with their columns, once anything of this is used: hashes speak of it."""
    unused = "subject IS NULL AND aliases = '[]' AND rephrase_answers IS NULL AND scope IS NULL"
    op.create_check_constraint(op.f("ck_edits_unused"), "edits", unused)
    op.create_check_constraint(op.f("ck_edit_events_unused"), "edit_events", "record_object IS NULL")
    _refuse_changes_to(DEFINING)
    op.drop_column("edit_events", "record_object")
    for name in ("scope", "rephrase_answers", "aliases", "subject"):
        op.drop_column("edits", name)
