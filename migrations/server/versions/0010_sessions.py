"""People sign in with a browser, and are the same wherever they come from

Revision: 0010, after 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, and the column for e-mail addresses."""
    op.add_column("users", sa.Column("email", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "user_aliases",
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        _of_user("fk_user_aliases_user_id"),
        sa.PrimaryKeyConstraint("account_id", "kind", "name", name="pk_user_aliases"),
    )
    op.create_index("ix_user_aliases_user_id", "user_aliases", ["user_id"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("api_key_id", sa.String(36), nullable=True),
        sa.Column("method", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.BigInteger(), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("last_used_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.Column("revoke_time", sa.BigInteger(), nullable=True),
        _of_user("fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("secret_hash", name="uq_sessions_secret_hash"),
    )
    op.create_index("ix_sessions_account_id_user_id", "sessions", ["account_id", "user_id"])
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "sign_in_links",
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("api_key_id", sa.String(36), nullable=False),
        sa.Column("role", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        _of_user("fk_sign_in_links_user_id"),
        sa.PrimaryKeyConstraint("code_hash", name="pk_sign_in_links"),
    )
    op.create_index("ix_sign_in_links_account_id", "sign_in_links", ["account_id"])
    op.create_index("ix_sign_in_links_user_id", "sign_in_links", ["user_id"])


def _of_user(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=name, ondelete="CASCADE")


def downgrade() -> None:
    """Signs everybody out. Who came under several names is several users from then on."""
    for table in ("sign_in_links", "sessions", "user_aliases"):
        op.drop_table(table)
    op.drop_column("users", "email")
