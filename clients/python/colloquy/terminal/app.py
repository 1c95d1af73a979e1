"""The commands of `colloquy`: those of the terminal client, and those that other distributions add.

What a command needs is imported when it runs, so that `--help` is there at once. A distribution
adds its commands through the entry points `colloquy.commands`, each a function of the Typer app.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from colloquy.terminal.commands import (
    admin,
    budgets,
    chat,
    conversations,
    export,
    index,
    login,
    models,
    participants,
    rate,
    search,
    send,
    sessions,
    upload,
    usage,
    webhooks,
)
from colloquy.terminal.connection import Connection
from colloquy.terminal.console import note

_PLUGINS = {
    "serve": ("Run the server.", "colloquy-server"),
    "migrate": ("Bring the server's database to the present schema.", "colloquy-server"),
    "slack": ("Run the Slack bot.", "colloquy-slack"),
}
"""The commands of other distributions: what each does, and what to install for it."""


@contextmanager
def _ending_with_its_reader() -> Iterator[None]:
    """End as other tools do, by SIGPIPE, when whoever reads the output has seen enough (`| head`).

    The signal itself stays ignored: gRPC meets it within this process, at sockets of its own.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # `>&-`: there is nobody to write to
                sys.stdout.flush()
    except BrokenPipeError:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)


class Commands(TyperGroup):
    """Runs a command and prints its error as one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command, which may print something: --help, --version."""
        with _ending_with_its_reader():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Exits with 1 for errors, with 130 when it is interrupted."""
        try:
            with _ending_with_its_reader():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):  # usage errors are of the last kind
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if ctx.invoked_subcommand in _PLUGINS:  # it tells its own; what is left is a bug
                raise
            from colloquy.terminal.error_formatter import format_error

            note(f"error: {format_error(error, _server(ctx))}")
            raise typer.Exit(1) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"colloquy {version('colloquy')}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    help="Talk to a Colloquy server. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def connect(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="HOST, HOST:PORT or https://HOST:PORT; default CONVERSATION_ADDRESS, then "
            "127.0.0.1:50051.",
            metavar="ADDRESS",
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt, trusting the system's CAs.")] = False,
    ca_file: Annotated[
        str | None, typer.Option(help="Encrypt, trusting this CA.", metavar="FILE")
    ] = None,
    cert_file: Annotated[
        str | None, typer.Option(help="A certificate to show to the server.", metavar="FILE")
    ] = None,
    key_file: Annotated[
        str | None, typer.Option(help="The certificate's private key.", metavar="FILE")
    ] = None,
) -> None:
    """Keep the options that all commands of the client share."""
    if context.invoked_subcommand not in _PLUGINS:  # those read settings of their own
        _read_settings()
    context.obj = Connection(
        address, tls, {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    )


app.command("chat")(chat.chat)
app.command("send")(send.send)
app.command("list")(conversations.list_conversations)
app.command("show")(conversations.show)
app.command("archive")(index.archive)
app.command("pin")(index.pin)
app.command("watch")(conversations.watch)
app.command("search")(search.search)
app.command("rate")(rate.rate)
app.command("delete")(conversations.delete)
app.command("delete-message")(conversations.delete_message)
app.command("invite")(participants.invite)
app.command("remove")(participants.remove)
app.command("visibility")(participants.visibility)
app.command("models")(models.models)
app.command("usage")(usage.usage)
app.command("upload")(upload.upload)
app.command("export")(export.export)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("link")(sessions.link)
app.command("sessions")(sessions.sessions)
app.add_typer(admin.app, name="admin")
admin.app.command("usage")(usage.admin_usage)
admin.app.command("set-budget")(budgets.set_budget)
admin.app.command("list-budgets")(budgets.list_budgets)
admin.app.command("delete-budget")(budgets.delete_budget)
admin.app.command("create-webhook")(webhooks.create_webhook)
admin.app.command("list-webhooks")(webhooks.list_webhooks)
admin.app.command("delete-webhook")(webhooks.delete_webhook)
admin.app.command("list-dead-letters")(webhooks.list_dead_letters)
admin.app.command("retry-dead-letter")(webhooks.retry_dead_letter)


def _add_plugins() -> None:
    """Add the commands of the distributions that are installed; the others say what to install."""
    for point in entry_points(group="colloquy.commands"):
        try:
            point.load()(app)
        except Exception as error:  # whatever is wrong with it: the other commands go on
            note(f"warning: {point.value} cannot be loaded: {error}")
    present = {command.name for command in app.registered_commands}
    for name, (what, distribution) in _PLUGINS.items():
        if name not in present:
            _add_missing(name, what, distribution)


def _add_missing(name: str, what: str, distribution: str) -> None:
    @app.command(
        name,
        help=f"{what} Not installed: install {distribution}.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def missing(context: typer.Context) -> None:
        note(f"error: `colloquy {name}` is not installed here: install {distribution}")
        raise typer.Exit(1)


def _read_settings() -> None:
    """Take settings from `.env` too, as the server does."""
    from dotenv import load_dotenv

    try:
        load_dotenv(".env")
    except UnicodeDecodeError:
        note("error: .env: not UTF-8")
        raise typer.Exit(1) from None
    # gRPC writes to the screen when a server goes away, into the middle of a chat.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main() -> None:
    """Run the command line."""
    _add_plugins()
    app(prog_name="colloquy")


def _server(context: Any) -> str:
    """Return the server's address for an error about it."""
    try:
        return context.obj.server if context.obj else ""
    except Exception:
        return context.obj.address or ""
