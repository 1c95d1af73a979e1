"""When the bot answers in a channel or thread, a channel's prompt, and what was told once

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two settings to channels, and two tables."""
    mode: sa.Column[object] = sa.Column("mode", sa.String(16), nullable=False, server_default="")
    prompt: sa.Column[object] = sa.Column("prompt", sa.Text(), nullable=False, server_default="")
    op.add_column("slack_channels", mode)
    op.add_column("slack_channels", prompt)
    op.create_table(
        "slack_threads",
        sa.Column("team_id", sa.String(32), primary_key=True),
        sa.Column("channel_id", sa.String(32), primary_key=True),
        sa.Column("thread_ts", sa.String(32), primary_key=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("aside_ts", sa.String(32), nullable=False),
        sa.Column("called_ts", sa.String(32), nullable=False),
    )
    op.create_table(
        "slack_notices",
        sa.Column("team_id", sa.String(32), primary_key=True),
        sa.Column("notice", sa.String(64), primary_key=True),
    )
