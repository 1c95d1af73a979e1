"""What is said in threads between the bot's requests, and how far each thread was read

Revision: 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds to kept messages until when each is kept, and whether the server has it; two tables."""
    # What was kept so far was kept for minutes only.
    op.execute("DELETE FROM slack_overheard")
    columns: tuple[sa.Column[object], ...] = (
        sa.Column("expires_at", sa.Float(), nullable=False, server_default="0"),
        sa.Column("is_given", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for column in columns:
        op.add_column("slack_overheard", column)
    op.create_index("ix_slack_overheard_expires", "slack_overheard", ["expires_at"])
    op.create_index(
        "ix_slack_overheard_thread", "slack_overheard", ["team_id", "channel_id", "thread_ts"]
    )
    op.create_table(
        "slack_thread_reads",
        sa.Column("team_id", sa.String(32), primary_key=True),
        sa.Column("channel_id", sa.String(32), primary_key=True),
        sa.Column("thread_ts", sa.String(32), primary_key=True),
        sa.Column("read_until", sa.String(32), nullable=False),
        sa.Column("given_until", sa.String(32), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "slack_listening",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
    )
