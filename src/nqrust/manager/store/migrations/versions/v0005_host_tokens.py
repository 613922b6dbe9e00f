"""New tokens of hosts, beside the former ones until the agent uses them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("next_agent_token_sha256", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("next_command_token", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("tokens_at", sa.DateTime(timezone=True), nullable=True))
    op.create_unique_constraint(op.f("uq_hosts_next_agent_token_sha256"), "hosts", ["next_agent_token_sha256"])


def downgrade() -> None:
    op.drop_constraint(op.f("uq_hosts_next_agent_token_sha256"), "hosts", type_="unique")
    for name in ("tokens_at", "next_command_token", "next_agent_token_sha256"):
        op.drop_column("hosts", name)
