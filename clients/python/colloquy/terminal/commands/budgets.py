"""`admin set-budget`, `list-budgets` and `delete-budget`: how much may be used."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from colloquy.terminal.commands.admin import Account, AsJson, account_id_of
from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import print_lines, usage_error
from colloquy.terminal.partial_ids import check_user_id


class Period(StrEnum):
    """When a budget starts anew, in UTC."""

    DAY = "day"
    MONTH = "month"


def set_budget(
    context: typer.Context,
    account: Account,
    usd: Annotated[float | None, typer.Option(min=0, help="So many US dollars.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="So many tokens, in and out.")] = None,
    replies: Annotated[int | None, typer.Option(min=0, help="So many replies.")] = None,
    period: Annotated[
        Period, typer.Option(help="When it starts anew, at midnight UTC.")
    ] = Period.MONTH,
    user: Annotated[str, typer.Option(metavar="ID", help="Only for this user: the whole id.")] = "",
    key: Annotated[str, typer.Option(metavar="ID", help="Only for this key: the whole id.")] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="Only for this model.")] = "",
    json: AsJson = False,
) -> None:
    """Limit what an account may use, by one of --usd, --tokens and --replies, and print the
    budget's id. All budgets hold that apply; one for the same, of the same period and unit, gets
    the new limit."""
    from colloquy.api.resources_pb2 import Budget
    from colloquy.terminal.formatting import to_json

    limits = {
        Budget.UNIT_USD: usd,
        Budget.UNIT_TOKENS: tokens,
        Budget.UNIT_REPLIES: replies,
    }
    given = [(unit, limit) for unit, limit in limits.items() if limit is not None]
    if len(given) != 1:
        usage_error("say how much: one of --usd, --tokens and --replies")
    ((unit, limit),) = given
    if user:
        check_user_id(user)
    with connection_of(context).admin_client() as client:
        budget = client.set_budget(
            account_id_of(client, account),
            limit,
            unit,
            Budget.Period.Value(f"PERIOD_{period.name}"),
            user_id=user,
            api_key_id=key,
            model=model,
        )
    print_lines([to_json(budget) if json else budget.id])


def list_budgets(context: typer.Context, account: Account, json: AsJson = False) -> None:
    """List an account's budgets: id, period, unit, limit, what is used, what is set aside for
    replies on their way, when it starts anew, and the user, key and model that it is for."""
    from colloquy.api.resources_pb2 import Budget
    from colloquy.terminal.formatting import to_json, to_tsv, utc_time

    with connection_of(context).admin_client() as client:
        for budget in client.budgets(account_id_of(client, account)):
            fields = (
                budget.id,
                Budget.Period.Name(budget.period).removeprefix("PERIOD_").lower(),
                Budget.Unit.Name(budget.unit).removeprefix("UNIT_").lower(),
                f"{budget.limit:.15g}",
                f"{budget.used:.15g}",
                f"{budget.reserved:.15g}",
                utc_time(budget.renew_time),
                budget.user_id,
                budget.api_key_id,
                budget.model,
            )
            print_lines([to_json(budget) if json else to_tsv(fields)])


def delete_budget(
    context: typer.Context,
    budget: Annotated[str, typer.Argument(help="The budget's whole id.", metavar="BUDGET")],
) -> None:
    """Take a budget away: what it limited is limited no more."""
    with connection_of(context).admin_client() as client:
        client.delete_budget(budget)
