"""Which ledger this is: the object folder belongs to one.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_identity",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("identity", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_identity_single")),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_identity"),
    )


def downgrade() -> None:
    op.drop_table("ledger_identity")
