"""Alembic's entry: runs migrations on the connection that the server hands over, or on the database
of DATABASE_URL when it is called as `alembic`."""

from __future__ import annotations

from alembic import context
from colloquy_server import settings
from colloquy_server.database.engine import sync_engine
from colloquy_server.database.models import Base
from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """Runs what is asked for in one transaction, on SQLite too."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with sync_engine(settings.load().database_url).begin() as connection:
        run(connection)
