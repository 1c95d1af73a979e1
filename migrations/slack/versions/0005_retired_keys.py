"""Keys without a workspace are kept until they have revoked themselves

Revision: 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the key, encrypted, to those that are retired."""
    key: sa.Column[object] = sa.Column(
        "encrypted_key", sa.Text(), nullable=False, server_default=""
    )
    op.add_column("slack_retired_keys", key)
