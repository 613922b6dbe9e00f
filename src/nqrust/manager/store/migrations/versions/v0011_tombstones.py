"""A record of every delete, and of VMs that a host has and no row tells of.

Deletes that are done or under way get theirs: their operations were the record until now. The next pass of the reconciler
confirms those of which nothing is left.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tombstones",
        sa.Column("vm_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, server_default=""),
        sa.Column("host_id", sa.String(length=36), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("vm_id", name=op.f("pk_tombstones")),
    )
    op.create_index("ix_tombstones_unconfirmed", "tombstones", ["host_id"], postgresql_where=sa.text("confirmed_at IS NULL"))
    op.create_table(
        "unknown_vms",
        sa.Column("host_id", sa.String(length=36), nullable=False),
        sa.Column("vm_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_unknown_vms_host_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "vm_id", name=op.f("pk_unknown_vms")),
    )
    op.execute(
        """
        INSERT INTO tombstones (vm_id, name, host_id, deleted_by, deleted_at)
        SELECT DISTINCT ON (o.vm_id) o.vm_id, coalesce(v.name, ''), o.host_id, o.actor, o.created_at
        FROM operations o LEFT JOIN vms v ON v.id = o.vm_id
        WHERE o.kind = 'delete' AND (o.state IN ('pending', 'running', 'done') OR v.desired_state = 'deleted')
        ORDER BY o.vm_id, o.id DESC
        """
    )


def downgrade() -> None:
    op.drop_table("unknown_vms")
    op.drop_table("tombstones")
