"""Owners of API tokens, join tokens for one host, and who did what by name in the audit log.

Every new column has a default in the database, so that a manager of schema 0001 can still write.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("created_by", sa.Text(), server_default="", nullable=False))
    op.add_column("tokens", sa.Column("parent_id", sa.String(length=36), nullable=True))
    op.create_foreign_key(op.f("fk_tokens_parent_id"), "tokens", "tokens", ["parent_id"], ["id"], ondelete="CASCADE")
    op.create_index(op.f("ix_tokens_parent_id"), "tokens", ["parent_id"], unique=False)
    op.execute("UPDATE tokens SET created_by = 'installer' WHERE kind = 'bootstrap'")

    op.add_column("join_tokens", sa.Column("host_name", sa.Text(), nullable=True))
    op.add_column("join_tokens", sa.Column("replace", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("join_tokens", sa.Column("used_from", sa.Text(), nullable=True))
    op.add_column("join_tokens", sa.Column("user_id", sa.String(length=36), nullable=True))
    op.create_foreign_key(op.f("fk_join_tokens_user_id"), "join_tokens", "users", ["user_id"], ["id"], ondelete="CASCADE")
    # They were for any host, and nobody can tell for which one.
    op.execute("DELETE FROM join_tokens WHERE NOT reusable")

    for name in ("username", "token", "auth", "action", "target", "code"):
        op.add_column("audit", sa.Column(name, sa.Text(), server_default="", nullable=False))
