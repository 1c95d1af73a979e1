"""`usage` and `admin usage`: what replies used, and how far budgets are used up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.commands.admin import Account, account_id_of
from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import print_lines, screen, usage_error
from colloquy.terminal.partial_ids import is_whole_id

if TYPE_CHECKING:
    from colloquy import ConversationClient
    from colloquy.api.resources_pb2 import UsageGroup


class Group(StrEnum):
    """What the rows are apart in."""

    DAY = "day"
    USER = "user"
    KEY = "key"
    MODEL = "model"


Since = Annotated[
    str, typer.Option(metavar="DAY", help="The first day, like 2026-11-01; default: of this month.")
]
Until = Annotated[str, typer.Option(metavar="DAY", help="The last day; default: today.")]
By = Annotated[
    list[Group] | None,
    typer.Option("--by", help="What the rows are apart in; may be repeated. Default: model."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def usage(
    context: typer.Context,
    since: Since = "",
    until: Until = "",
    by: By = None,
    user: Annotated[
        str,
        typer.Option(metavar="USER", help="Only theirs: your own name for the user, or their id."),
    ] = "",
    json: AsJson = False,
) -> None:
    """Show what replies, titles and transcriptions used, and how far the budgets are used that
    apply to you. A member's key sees what is its own, another one the whole account. Days are
    those of UTC.

    On a pipe: day, user's id, key's id, model, replies, tokens in, those of them that the provider
    had cached, tokens out, US dollars, and how many of the tokens are estimated, with tabs between
    them. The budgets are in what --json prints.
    """
    from colloquy.terminal.formatting import to_json
    from colloquy.terminal.usage_renderer import print_usage, usage_lines

    days = [_day(since, "--since"), _day(until, "--until")]
    groups = _groups(by)
    console = screen()
    with connection_of(context).client() as client:
        answer = client.get_usage(
            start_day=days[0],
            end_day=days[1],
            group_by=groups,
            user_id=_user_id(client, user) if user else "",
        )
    if json:
        print_lines([to_json(answer)])
    elif console.is_terminal:
        print_usage(console, answer.rows, groups, answer.budgets)
    else:
        print_lines(usage_lines(answer.rows))


def admin_usage(
    context: typer.Context,
    account: Account,
    since: Since = "",
    until: Until = "",
    by: By = None,
    user: Annotated[str, typer.Option(metavar="ID", help="Only theirs: the user's whole id.")] = "",
    json: AsJson = False,
) -> None:
    """Show what an account used, as `colloquy usage` does."""
    from colloquy.terminal.formatting import to_json
    from colloquy.terminal.usage_renderer import print_usage, usage_lines

    days = [_day(since, "--since"), _day(until, "--until")]
    groups = _groups(by)
    console = screen()
    with connection_of(context).admin_client() as client:
        account_id = account_id_of(client, account)
        answer = client.get_usage(
            account_id, start_day=days[0], end_day=days[1], group_by=groups, user_id=user
        )
        budgets = list(client.budgets(account_id)) if console.is_terminal and not json else []
    if json:
        print_lines([to_json(answer)])
    elif console.is_terminal:
        print_usage(console, answer.rows, groups, budgets)
    else:
        print_lines(usage_lines(answer.rows))


def _day(text: str, option: str) -> str:
    """Return a day as the API has it. Exits with 2 when it is none."""
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        usage_error(f"{option} {text!r} is not a day like 2026-11-01")


def _groups(by: Sequence[Group] | None) -> list[UsageGroup.ValueType]:
    from colloquy.api.resources_pb2 import (
        USAGE_GROUP_API_KEY,
        USAGE_GROUP_DAY,
        USAGE_GROUP_MODEL,
        USAGE_GROUP_USER,
    )

    values = {
        Group.DAY: USAGE_GROUP_DAY,
        Group.USER: USAGE_GROUP_USER,
        Group.KEY: USAGE_GROUP_API_KEY,
        Group.MODEL: USAGE_GROUP_MODEL,
    }
    return [values[group] for group in dict.fromkeys(by or [Group.MODEL])]


def _user_id(client: ConversationClient, person: str) -> str:
    if is_whole_id(person):
        return person
    found = next((one.id for one in client.users(person) if one.external_id == person), "")
    return found or usage_error(f"there is no user {person!r} in this account")
