"""An index for the events of a thing by its name."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_events_subject_name_id"), "events", ["subject_name", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_events_subject_name_id"), "events")
