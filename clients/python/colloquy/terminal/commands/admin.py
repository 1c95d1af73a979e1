"""`admin`: accounts and their keys, with the platform's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import confirm, note, usage_error
from colloquy.terminal.partial_ids import is_whole_id, pick_id

if TYPE_CHECKING:
    from colloquy import AdminClient
    from colloquy.api.admin_service_pb2 import ApiKey

app = typer.Typer(
    help="Accounts and their keys. Needs the platform's key in ADMIN_API_KEY.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Account = Annotated[
    str, typer.Argument(help="The account's id, or how that begins or ends.", metavar="ACCOUNT")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Role(StrEnum):
    """What a key may do."""

    SERVICE = "service"
    MEMBER = "member"


@app.command()
def create_account(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What people call it.")],
    external_id: Annotated[
        str, typer.Option(help="Your own name for it; an account that has it is returned.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Make an account and print its id."""
    from colloquy.terminal.formatting import to_json

    with connection_of(context).admin_client() as client:
        account = client.create_account(name, external_id=external_id)
    print(to_json(account) if json else account.id)  # noqa: T201


@app.command()
def list_accounts(context: typer.Context, json: AsJson = False) -> None:
    """List the accounts: id, when it was made, its name for callers, its name."""
    from colloquy.terminal.formatting import to_json, to_tsv, utc_time

    with connection_of(context).admin_client() as client:
        for account in client.accounts():
            made = utc_time(account.create_time)
            fields = (account.id, made, account.external_id, account.name)
            print(to_json(account) if json else to_tsv(fields))  # noqa: T201


@app.command()
def delete_account(context: typer.Context, account: Account, yes: Yes = False) -> None:
    """Delete an account with everything in it."""
    with connection_of(context).admin_client() as client:
        account_id = _account(client, account)
        confirm(f"Delete the account {account_id} with all its conversations?", yes)
        client.delete_account(account_id)


@app.command()
def create_key(
    context: typer.Context,
    account: Account,
    name: Annotated[str, typer.Argument(help="What people call the key.")],
    role: Annotated[
        Role, typer.Option(help="A service speaks for any user of the account, a member as one.")
    ] = Role.SERVICE,
    user: Annotated[
        str, typer.Option(help="Whom a member's key speaks as: your own name for the user.")
    ] = "",
    user_name: Annotated[str, typer.Option(help="The name that others see of that user.")] = "",
    days: Annotated[
        float | None, typer.Option(min=0.0, help="After how many days it ends; default: never.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Make a key and print its secret, which cannot be shown again."""
    from colloquy.api.admin_service_pb2 import ApiKey
    from colloquy.api.resources_pb2 import User
    from colloquy.terminal.formatting import to_json

    if (role is Role.MEMBER) != bool(user):
        usage_error("--role member needs --user, and only that role takes one")
    speaker = User(external_id=user, display_name=user_name) if user else None
    with connection_of(context).admin_client() as client:
        answer = client.create_api_key(
            _account(client, account),
            name,
            role=ApiKey.ROLE_MEMBER if role is Role.MEMBER else ApiKey.ROLE_SERVICE,
            user=speaker,
            expire_time=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
    if json:
        print(to_json(answer))  # noqa: T201
        return
    note(f"key {answer.api_key.id}; its secret is shown this once:")
    print(answer.secret)  # noqa: T201


@app.command()
def list_keys(context: typer.Context, account: Account, json: AsJson = False) -> None:
    """List an account's keys: id, role, whether it holds, whom it speaks as, its name."""
    from colloquy.terminal.formatting import to_json, to_tsv

    with connection_of(context).admin_client() as client:
        for key in client.api_keys(_account(client, account)):
            print(to_json(key) if json else to_tsv(_fields(key)))  # noqa: T201


@app.command()
def revoke_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's whole id.")],
) -> None:
    """Revoke a key: new calls fail at once, open streams within seconds."""
    with connection_of(context).admin_client() as client:
        client.revoke_api_key(key)


def _account(client: AdminClient, part: str) -> str:
    if is_whole_id(part):
        return part
    return pick_id(part, (account.id for account in client.accounts()), "account")


def _fields(key: ApiKey) -> tuple[str, ...]:
    from colloquy.api.admin_service_pb2 import ApiKey
    from colloquy.terminal.formatting import utc_time

    if key.HasField("revoke_time"):
        holds = f"revoked {utc_time(key.revoke_time)}"
    elif key.HasField("expire_time"):
        ended = key.expire_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
        holds = f"{'expired' if ended else 'until'} {utc_time(key.expire_time)}"
    else:
        holds = "holds"
    role = "member" if key.role == ApiKey.ROLE_MEMBER else "service"
    return key.id, role, holds, key.user.external_id, key.name
