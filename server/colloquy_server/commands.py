"""The commands of the server: `colloquy serve`, `migrate`, `backup`, `restore` and `doctor`.

What they do is imported when they run: `colloquy --help` shows them too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def _quiet_grpc() -> None:
    """Keeps gRPC's core from writing lines of its own form among ours, and from waiting for who
    reads them. It looks at this when it is loaded."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def add_to(app: typer.Typer) -> None:
    """Adds the commands to `colloquy`."""
    app.command("serve")(serve)
    app.command("migrate")(migrate)
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("doctor")(doctor)


def serve(
    dev: Annotated[
        bool,
        typer.Option("--dev", help="Make a development account and write its key to data/dev.key."),
    ] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring the database to the present schema first.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            help="Serve with so many processes on one port, each a replica; needs Postgres.",
        ),
    ] = 1,
) -> None:
    """Run the server until SIGTERM, SIGINT or SIGHUP. Settings: the environment and .env."""
    _quiet_grpc()
    from colloquy_server.process import run_server

    raise typer.Exit(run_server(is_development=dev, migrates_first=migrate, workers=workers))


def migrate(
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="REVISION",
            help="Bring it to this revision instead, back too: what only later ones have is lost.",
        ),
    ] = None,
) -> None:
    """Bring the database of DATABASE_URL to the present schema."""
    from colloquy_server.process import run_migrations

    raise typer.Exit(run_migrations(to))


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Copy a SQLite database and its files to a new folder, also while a server runs."""
    from colloquy_server.process import run_backup

    raise typer.Exit(run_backup(target))


def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `backup` wrote.")],
) -> None:
    """Put a backup where DATABASE_URL and STORAGE_URL say, where there is no database yet."""
    from colloquy_server.process import run_restore

    raise typer.Exit(run_restore(source))


def doctor(
    checked: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[server] [slack]", help="What to look at; else all that is to run here."
        ),
    ] = None,
) -> None:
    """Look at settings, database, files, providers and all else that a server needs, and say what
    to do. Ends with 1 when something would not run."""
    _quiet_grpc()
    from colloquy_server.process import run_doctor

    raise typer.Exit(run_doctor(checked or []))


def worker(number: int, descriptor: int) -> None:
    """Serve as one of the workers of `serve --workers`, which alone starts it."""
    _quiet_grpc()
    from colloquy_server.worker import run_worker

    raise typer.Exit(run_worker(number, descriptor))


def main() -> None:
    """`python -m colloquy_server`: these commands alone; it serves when none is named."""
    app = typer.Typer(
        help="The Colloquy server.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    add_to(app)
    app.command("worker", hidden=True)(worker)
    arguments = sys.argv[1:]
    names = {command.name for command in app.registered_commands}
    if not arguments or arguments[0] not in {*names, "--help"}:
        arguments.insert(0, "serve")
    app(arguments, prog_name="python -m colloquy_server")
