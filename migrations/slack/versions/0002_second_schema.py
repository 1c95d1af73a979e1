"""Prompts that were deleted, keys to be revoked, and what may be for the bot

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a mark to requests, and two tables; all workspaces' work is found at once."""
    mark: sa.Column[object] = sa.Column(
        "is_deleted", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("slack_requests", mark)
    op.drop_index("ix_slack_requests_work", "slack_requests")
    op.create_index("ix_slack_requests_work", "slack_requests", ["state", "team_id"])
    op.create_table(
        "slack_retired_keys",
        sa.Column("api_key_id", sa.String(64), primary_key=True),
    )
    op.create_table(
        "slack_overheard",
        sa.Column("team_id", sa.String(32), primary_key=True),
        sa.Column("channel_id", sa.String(32), primary_key=True),
        sa.Column("ts", sa.String(32), primary_key=True),
        sa.Column("thread_ts", sa.String(32), nullable=False),
        sa.Column("said", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )
