"""A schema says how old a server may be that serves from it

Revision: 0016, after 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """All that was changed since 0010 was added, so servers of 0010 still do."""
    op.create_table(
        "schema_floors",
        sa.Column("revision", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_schema_floors"),
    )
    op.execute("INSERT INTO schema_floors (revision) VALUES ('0010')")


def downgrade() -> None:
    """Takes it away."""
    op.drop_table("schema_floors")
