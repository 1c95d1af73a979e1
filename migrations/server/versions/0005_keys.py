"""Accounts that a provisioning key made, and when keys were last used

Revision: 0005, after 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the columns. What the Slack bot made, with the platform's key, it goes on to use with a
    provisioning key."""
    op.add_column(
        "accounts",
        sa.Column("is_provisioned", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.execute(
        sa.text(
            "UPDATE accounts SET is_provisioned = :yes WHERE external_id LIKE 'slack:%'"
        ).bindparams(yes=True)
    )
    op.add_column("api_keys", sa.Column("last_used_time", sa.BigInteger()))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("api_keys", "last_used_time")
    op.drop_column("accounts", "is_provisioned")
