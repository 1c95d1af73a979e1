"""`admin`: accounts and their keys, with the platform's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.commands.export_user import export_user
from colloquy.terminal.commands.participants import Audience, visibility_of
from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import confirm, note, usage_error
from colloquy.terminal.partial_ids import check_user_id, is_whole_id, pick_id

if TYPE_CHECKING:
    from colloquy import AdminClient
    from colloquy.api.admin_service_pb2 import ApiKey, Quotas

app = typer.Typer(
    help="Accounts, keys, budgets, webhooks, and who did what. Needs a platform key, the first in"
    " ADMIN_API_KEY.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Account = Annotated[
    str, typer.Argument(help="The account's id, or how that begins or ends.", metavar="ACCOUNT")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
MaxFileBytes = Annotated[
    int, typer.Option(min=0, help="Bytes of files that there may be; 0 for the server's limit.")
]
MaxConversations = Annotated[
    int, typer.Option(min=0, help="Conversations that there may be; 0 for the server's limit.")
]
MaxQueuedReplies = Annotated[
    int, typer.Option(min=0, help="Replies that may wait; 0 for the server's limit.")
]
RetentionDays = Annotated[
    int,
    typer.Option(
        min=0,
        max=36_500,
        help="After how many days without a new message conversations are deleted; 0 for never.",
    ),
]

app.command("export-user")(export_user)


class Role(StrEnum):
    """What a key may do."""

    SERVICE = "service"
    MEMBER = "member"
    ADMIN = "admin"


@app.command()
def create_account(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What people call it.")],
    external_id: Annotated[
        str, typer.Option(help="Your own name for it; an account that has it is returned.")
    ] = "",
    visibility: Annotated[
        Audience, typer.Option(help="Who sees its new conversations, where nothing else is said.")
    ] = Audience.ACCOUNT,
    max_file_bytes: MaxFileBytes = 0,
    max_conversations: MaxConversations = 0,
    max_queued_replies: MaxQueuedReplies = 0,
    retention_days: RetentionDays = 0,
    json: AsJson = False,
) -> None:
    """Make an account and print its id."""
    from colloquy.terminal.formatting import to_json

    with connection_of(context).admin_client() as client:
        account = client.create_account(
            name,
            external_id=external_id,
            default_visibility=visibility_of(visibility),
            quotas=_quotas(max_file_bytes, max_conversations, max_queued_replies),
            retention_days=retention_days,
        )
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
def update_account(
    context: typer.Context,
    account: Account,
    visibility: Annotated[
        Audience | None, typer.Option(help="Who sees its new conversations from now on.")
    ] = None,
    max_file_bytes: MaxFileBytes | None = None,
    max_conversations: MaxConversations | None = None,
    max_queued_replies: MaxQueuedReplies | None = None,
    retention_days: RetentionDays | None = None,
) -> None:
    """Change who sees an account's new conversations, how much it may hold, or how long it keeps
    conversations. What is not named stays as it is."""
    named = (max_file_bytes, max_conversations, max_queued_replies)
    is_limited = any(limit is not None for limit in named)
    if visibility is None and retention_days is None and not is_limited:
        usage_error("name what to change: --visibility, --retention-days or a limit")
    with connection_of(context).admin_client() as client:
        account_id = account_id_of(client, account)
        quotas = None
        if is_limited:
            # The API takes all three together.
            now = next((one.quotas for one in client.accounts() if one.id == account_id), None)
            kept = (now.file_bytes, now.conversations, now.queued_replies) if now else (0, 0, 0)
            quotas = _quotas(
                *(old if new is None else new for old, new in zip(kept, named, strict=True))
            )
        client.update_account(
            account_id,
            default_visibility=visibility_of(visibility),
            quotas=quotas,
            retention_days=retention_days,
        )


@app.command()
def delete_account(context: typer.Context, account: Account, yes: Yes = False) -> None:
    """Delete an account with everything in it."""
    with connection_of(context).admin_client() as client:
        account_id = account_id_of(client, account)
        name = "" if yes else _account_name(client, account_id)
        confirm(f"Delete the account {name}({account_id}) with all its conversations?", yes)
        client.delete_account(account_id)


@app.command()
def delete_user(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's whole id.", metavar="USER")],
    yes: Yes = False,
) -> None:
    """Delete a user with all that they said, and the conversations in which nobody else is."""
    check_user_id(user)
    with connection_of(context).admin_client() as client:
        confirm(f"Delete the user {user} with all that they said?", yes)
        client.delete_user(user)


@app.command()
def create_key(
    context: typer.Context,
    account: Account,
    name: Annotated[str, typer.Argument(help="What people call the key.")],
    role: Annotated[
        Role,
        typer.Option(
            help="A service speaks for any user of the account and sees all of it; a member speaks"
            " as one user and sees what that user may; an admin speaks as one and sees all."
        ),
    ] = Role.SERVICE,
    user: Annotated[
        str,
        typer.Option(help="Whom a member's or admin's key speaks as: your own name for the user."),
    ] = "",
    user_name: Annotated[str, typer.Option(help="The name that others see of that user.")] = "",
    days: Annotated[
        float | None, typer.Option(min=0.0, help="After how many days it ends; default: never.")
    ] = None,
    max_file_bytes: MaxFileBytes = 0,
    max_conversations: MaxConversations = 0,
    max_queued_replies: MaxQueuedReplies = 0,
    json: AsJson = False,
) -> None:
    """Make a key and print its secret, which cannot be shown again."""
    from colloquy.api.admin_service_pb2 import ApiKey
    from colloquy.api.resources_pb2 import User
    from colloquy.terminal.formatting import to_json

    if (role is Role.SERVICE) == bool(user):
        usage_error("--role member and --role admin need --user, and --role service takes none")
    speaker = User(external_id=user, display_name=user_name) if user else None
    with connection_of(context).admin_client() as client:
        answer = client.create_api_key(
            account_id_of(client, account),
            name,
            role=ApiKey.Role.Value(f"ROLE_{role.name}"),
            user=speaker,
            expire_time=None if days is None else datetime.now(UTC) + timedelta(days=days),
            quotas=_quotas(max_file_bytes, max_conversations, max_queued_replies),
        )
    if json:
        print(to_json(answer))  # noqa: T201
        return
    note(f"key {answer.api_key.id}; its secret is shown this once:")
    print(answer.secret)  # noqa: T201


@app.command()
def list_keys(context: typer.Context, account: Account, json: AsJson = False) -> None:
    """List an account's keys: id, role, whether it holds, whom it speaks as, its name, last use."""
    from colloquy.terminal.formatting import to_json, to_tsv

    with connection_of(context).admin_client() as client:
        for key in client.api_keys(account_id_of(client, account)):
            print(to_json(key) if json else to_tsv(_fields(key)))  # noqa: T201


@app.command()
def revoke_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's whole id.")],
) -> None:
    """Revoke a key: new calls fail at once, open streams within seconds."""
    with connection_of(context).admin_client() as client:
        client.revoke_api_key(key)


@app.command()
def audit(
    context: typer.Context,
    account: Annotated[
        str, typer.Option(help="Only of this account: its id, or how that begins or ends.")
    ] = "",
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=0, help="How many at most; 0 for all.")
    ] = 50,
    json: AsJson = False,
) -> None:
    """List who did what, the newest first: when, what, what to, who (actor, user, key), from which
    address, in which account, and why it was refused."""
    from colloquy.terminal.formatting import to_json, to_tsv, utc_time

    with connection_of(context).admin_client() as client:
        account_id = account and account_id_of(client, account)
        for event in islice(client.audit_events(account_id), limit or None):
            fields = (
                utc_time(event.time),
                event.action,
                event.target_id,
                event.actor,
                event.user_id,
                event.api_key_id,
                event.address,
                event.account_id,
                event.refusal,
            )
            print(to_json(event) if json else to_tsv(fields))  # noqa: T201


def _quotas(file_bytes: int, conversations: int, queued_replies: int) -> Quotas:
    from colloquy.api.admin_service_pb2 import Quotas

    if queued_replies >= 1 << 31 or max(file_bytes, conversations) >= 1 << 63:
        usage_error("a limit is larger than the API can say")
    return Quotas(file_bytes=file_bytes, conversations=conversations, queued_replies=queued_replies)


def account_id_of(client: AdminClient, part: str) -> str:
    """Return the id of the account that a part of its id names."""
    if is_whole_id(part):
        return part
    return pick_id(part, (account.id for account in client.accounts()), "account")


def _account_name(client: AdminClient, account_id: str) -> str:
    """Return what people call an account, with a space behind it; empty when it is not there."""
    return next((f"{one.name} " for one in client.accounts() if one.id == account_id), "")


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
    role = ApiKey.Role.Name(key.role).removeprefix("ROLE_").lower()
    used = f"used {utc_time(key.last_used_time)}" if key.HasField("last_used_time") else "not used"
    return key.id, role, holds, key.user.external_id, key.name, used
