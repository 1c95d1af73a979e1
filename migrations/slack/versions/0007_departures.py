"""Workspaces that took the app away are remembered until their conversations are deleted

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table. Of those that left before, nothing is known."""
    op.create_table(
        "slack_departures",
        sa.Column("team_id", sa.String(32), primary_key=True),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("left_at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("slack_departures")
