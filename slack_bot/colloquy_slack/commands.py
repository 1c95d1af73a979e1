"""The command `colloquy slack`.

What it does is imported when it runs: `colloquy --help` shows it too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to `colloquy`."""
    app.command("slack")(slack)


def slack(
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Print the manifest of the Slack app, and end.")
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(
            "--backup",
            metavar="FILE",
            help="Copy the bot's SQLite database to a new file, also while a bot runs, and end.",
        ),
    ] = None,
) -> None:
    """Run the Slack bot until SIGTERM, SIGINT or SIGHUP. Settings: the environment and .env."""
    if manifest:
        typer.echo(Path(__file__).with_name("slack_manifest.yml").read_text("utf-8"), nl=False)
        return
    # gRPC's core, which looks at this when it is loaded, would write lines of its own among ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from colloquy_slack.process import run_backup, run_bot

    if backup is not None:
        raise typer.Exit(run_backup(backup))
    raise typer.Exit(run_bot())


def main() -> None:
    """`python -m colloquy_slack`: this command alone."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    add_to(app)
    app(prog_name="python -m colloquy_slack")
