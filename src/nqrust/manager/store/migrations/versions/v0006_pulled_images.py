"""Where an image was pulled from, and the exit code of a VM's process."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("origin", sa.Text(), nullable=False, server_default=""))
    op.add_column("images", sa.Column("digest", sa.Text(), nullable=False, server_default=""))
    op.add_column("vms", sa.Column("exit_code", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("vms", "exit_code")
    op.drop_column("images", "digest")
    op.drop_column("images", "origin")
