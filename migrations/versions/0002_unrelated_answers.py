"""Edits keep what their unrelated prompts were answered before and after.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column_type = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("edits", sa.Column("unrelated_answers", column_type, nullable=True))


def downgrade() -> None:
    op.drop_column("edits", "unrelated_answers")
