"""Certificates of hosts, and the time since which they must be new.

Every new column has a default in the database, so that a manager of schema 0003 can still write.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXTS = ("certificate", "certificate_signer", "seen_certificate", "seen_authority")


def upgrade() -> None:
    for name in _TEXTS:
        op.add_column("hosts", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("hosts", sa.Column("certificate_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "rotations",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_rotations")),
    )


def downgrade() -> None:
    op.drop_table("rotations")
    for name in ("certificate_at", *_TEXTS):
        op.drop_column("hosts", name)
