"""Which VMs have had a disk on their host. The reconciler learns it from the hosts, also of VMs of before.

The new column has a default in the database, so that a manager of schema 0007 can still write.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vms", sa.Column("made", sa.Boolean(), nullable=False, server_default=sa.text("false")))


def downgrade() -> None:
    op.drop_column("vms", "made")
