"""Quotas of accounts and keys, and the audit trail

Revision: 0007, after 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MADE_WITH_A_KEY = ("conversations", "messages", "blobs")
_QUEUED = sa.text("state = 1 AND api_key_id IS NOT NULL")


def upgrade() -> None:
    """Makes the tables and counts what accounts hold. No account or key has limits of its own yet,
    so what was made with which key need not be known."""
    number = sa.BigInteger()
    op.create_table(
        "quotas",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("max_file_bytes", number, nullable=False),
        sa.Column("max_conversations", number, nullable=False),
        sa.Column("max_queued_replies", number, nullable=False),
        sa.Column("file_bytes", number, nullable=False),
        sa.Column("conversations", number, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quotas"),
    )
    op.create_index("ix_quotas_account_id", "quotas", ["account_id"])
    op.execute(
        "INSERT INTO quotas (id, account_id, max_file_bytes, max_conversations,"
        " max_queued_replies, file_bytes, conversations)"
        " SELECT a.id, a.id, 0, 0, 0, coalesce(b.held, 0), coalesce(c.held, 0) FROM accounts a"
        " LEFT JOIN (SELECT account_id, sum(byte_size) AS held FROM blobs GROUP BY account_id) b"
        " ON b.account_id = a.id"
        " LEFT JOIN (SELECT account_id, count(*) AS held FROM conversations GROUP BY account_id) c"
        " ON c.account_id = a.id"
    )
    for table in _MADE_WITH_A_KEY:
        op.add_column(table, sa.Column("api_key_id", sa.String(36)))
    op.create_index(
        "ix_messages_queued_by_key",
        "messages",
        ["api_key_id"],
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    )
    op.create_index("ix_blobs_account_id_byte_size", "blobs", ["account_id", "byte_size"])
    op.create_table(
        "audit_events",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("time", number, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("api_key_id", sa.String(36), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_time_id", "audit_events", ["time", "id"])
    op.create_index(
        "ix_audit_events_account_id_time_id", "audit_events", ["account_id", "time", "id"]
    )


def downgrade() -> None:
    """Drops it all."""
    op.drop_table("audit_events")
    op.drop_index("ix_blobs_account_id_byte_size", "blobs")
    op.drop_index("ix_messages_queued_by_key", "messages")
    for table in _MADE_WITH_A_KEY:
        op.drop_column(table, "api_key_id")
    op.drop_table("quotas")
