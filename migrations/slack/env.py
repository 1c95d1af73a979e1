"""Alembic's entry for the Slack bot's tables, on the connection that the bot hands over.

They have a version table of their own: the bot and the server may share one Postgres.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="slack_alembic_version",
    transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
