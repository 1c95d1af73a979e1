"""Private channels, whose conversations only their members see

Revision: 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table. Every channel in which the bot was asked anything is looked at once."""
    op.create_table(
        "slack_watched_channels",
        sa.Column("team_id", sa.String(32), primary_key=True),
        sa.Column("channel_id", sa.String(32), primary_key=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("is_private", sa.Boolean(), nullable=False),
    )
    op.create_index(
        "ix_slack_watched_channels_due", "slack_watched_channels", ["team_id", "due_at"]
    )
    op.execute(
        "INSERT INTO slack_watched_channels (team_id, channel_id, due_at, is_private)"
        " SELECT DISTINCT team_id, channel_id, 0.0, false FROM slack_requests"
        " WHERE conversation_id <> ''"
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("slack_watched_channels")
