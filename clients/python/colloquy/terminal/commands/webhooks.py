"""`admin create-webhook` and others: events of an account that are posted elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.commands.admin import Account, AsJson, Yes, account_id_of
from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import confirm, note, print_lines

if TYPE_CHECKING:
    from colloquy.api.admin_service_pb2 import Webhook


class Event(StrEnum):
    """What can be told, by the names that events have in what is posted."""

    REPLY_COMPLETED = "reply.completed"
    REPLY_FAILED = "reply.failed"
    REPLY_CANCELLED = "reply.cancelled"
    CONVERSATION_CREATED = "conversation.created"
    CONVERSATION_TITLED = "conversation.titled"
    CONVERSATION_DELETED = "conversation.deleted"
    BUDGET_WARNING = "budget.warning"
    BUDGET_EXCEEDED = "budget.exceeded"


def create_webhook(
    context: typer.Context,
    account: Account,
    url: Annotated[str, typer.Argument(help="Where to post to.", metavar="URL")],
    event: Annotated[
        list[Event] | None,
        typer.Option("--event", help="What to tell; may be repeated. Default: all."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Have events of an account posted to an address, and print the secret that signs them, which
    cannot be shown again."""
    from colloquy.api.admin_service_pb2 import Webhook
    from colloquy.terminal.formatting import to_json

    wanted = [
        Webhook.EventType.Value(f"EVENT_TYPE_{one.name}") for one in dict.fromkeys(event or ())
    ]
    with connection_of(context).admin_client() as client:
        answer = client.create_webhook(account_id_of(client, account), url, event_types=wanted)
    if not json:
        note(f"webhook {answer.webhook.id}; its secret is shown this once:")
    print_lines([to_json(answer) if json else answer.secret])


def list_webhooks(context: typer.Context, account: Account, json: AsJson = False) -> None:
    """List an account's webhooks: id, when it was made, the events with commas between them, and
    where they are posted to."""
    from colloquy.terminal.formatting import to_json, to_tsv, utc_time

    with connection_of(context).admin_client() as client:
        for webhook in client.webhooks(account_id_of(client, account)):
            events = ",".join(_event_name(kind) for kind in webhook.event_types) or "all"
            fields = (webhook.id, utc_time(webhook.create_time), events, webhook.url)
            print_lines([to_json(webhook) if json else to_tsv(fields)])


def delete_webhook(
    context: typer.Context,
    webhook: Annotated[str, typer.Argument(help="The webhook's whole id.", metavar="WEBHOOK")],
    yes: Yes = False,
) -> None:
    """Take a webhook away, with the events that were not delivered."""
    confirm(f"Delete the webhook {webhook} with what was not delivered?", yes)
    with connection_of(context).admin_client() as client:
        client.delete_webhook(webhook)


def list_dead_letters(context: typer.Context, account: Account, json: AsJson = False) -> None:
    """List the events that were given up after all attempts: id, when it was, what, its
    conversation, its webhook, how often it was tried, and what went wrong at last."""
    from colloquy.terminal.formatting import to_json, to_tsv, utc_time

    with connection_of(context).admin_client() as client:
        for letter in client.dead_letters(account_id_of(client, account)):
            fields = (
                letter.id,
                utc_time(letter.create_time),
                _event_name(letter.event_type),
                letter.conversation_id,
                letter.webhook_id,
                letter.attempts,
                letter.last_error,
            )
            print_lines([to_json(letter) if json else to_tsv(fields)])


def retry_dead_letter(
    context: typer.Context,
    delivery: Annotated[
        str, typer.Argument(help="Its whole id, as list-dead-letters tells it.", metavar="DELIVERY")
    ],
) -> None:
    """Try one of them again, with the same id."""
    with connection_of(context).admin_client() as client:
        client.retry_dead_letter(delivery)


def _event_name(kind: Webhook.EventType.ValueType) -> str:
    from colloquy.api.admin_service_pb2 import Webhook

    name = Webhook.EventType.Name(kind).removeprefix("EVENT_TYPE_")
    return name.replace("_", ".", 1).lower()
