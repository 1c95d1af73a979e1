"""Accounts say what they have that few have

Revision: 0011, after 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column: none has anything yet."""
    op.add_column(
        "quotas", sa.Column("features", sa.BigInteger(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("quotas", "features")
