"""What is written into a VM's disk for its network. VMs that are there stay as they are: their images were left alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vms", sa.Column("network_config", sa.Text(), nullable=False, server_default=sa.text("'image'")))
    op.add_column("vms", sa.Column("network_written", sa.Text(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("vms", "network_written")
    op.drop_column("vms", "network_config")
