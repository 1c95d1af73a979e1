"""The commands `colloquy serve` and `colloquy migrate`.

What they do is imported when they run: `colloquy --help` shows them too.
"""

from __future__ import annotations

import os
import sys
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


def migrate() -> None:
    """Bring the database of DATABASE_URL to the present schema."""
    from colloquy_server.process import run_migrations

    raise typer.Exit(run_migrations())


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
    if arguments[:1] not in (["serve"], ["migrate"], ["worker"], ["--help"]):
        arguments.insert(0, "serve")
    app(arguments, prog_name="python -m colloquy_server")
