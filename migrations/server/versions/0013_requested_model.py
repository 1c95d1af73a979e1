"""Replies say which model was asked for, where a fallback answered

Revision: 0013, after 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column: empty says that `model` was asked for, as in all rows before."""
    op.add_column(
        "messages", sa.Column("requested_model", sa.Text(), nullable=False, server_default="")
    )


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("messages", "requested_model")
