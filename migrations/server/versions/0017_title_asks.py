"""A title that was asked for, and whose asking was cut off, is booked

Revision: 0017, after 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_COLUMNS = ("title_asks", "title_asks_booked")


def upgrade() -> None:
    """Adds the columns: nothing that was asked before is open."""
    for name in _COLUMNS:
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("conversations", column)


def downgrade() -> None:
    """Takes them away."""
    for name in _COLUMNS:
        op.drop_column("conversations", name)
