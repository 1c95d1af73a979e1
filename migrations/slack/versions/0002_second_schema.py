"""Prompts that were deleted, and keys that are to be revoked

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
    """Adds a mark to requests, and a table; all workspaces' work is found at once."""
    op.add_column(
        "slack_requests",
        sa.Column("is_deleted", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.drop_index("ix_slack_requests_work", "slack_requests")
    op.create_index("ix_slack_requests_work", "slack_requests", ["state", "team_id"])
    op.create_table(
        "slack_retired_keys",
        sa.Column("api_key_id", sa.String(64), primary_key=True),
    )
