"""Counts the joins of each host with a certificate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("identity", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("hosts", "identity")
