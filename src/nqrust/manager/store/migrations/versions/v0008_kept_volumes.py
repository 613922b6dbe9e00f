"""Volumes that outlived their VMs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "volumes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host_id", sa.String(length=36), nullable=False),
        sa.Column("vm_id", sa.String(length=36), nullable=True),
        sa.Column("size_mib", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_volumes_host_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["vm_id"], ["vms.id"], name=op.f("fk_volumes_vm_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_volumes")),
    )
    op.create_index(op.f("ix_volumes_host_id"), "volumes", ["host_id"])
    op.create_index(op.f("ix_volumes_vm_id"), "volumes", ["vm_id"])


def downgrade() -> None:
    op.drop_table("volumes")
