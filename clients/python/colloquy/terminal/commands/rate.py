"""`rate`: what a reader thinks of a reply."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import usage_error
from colloquy.terminal.partial_ids import find_conversation, is_whole_id

if TYPE_CHECKING:
    from colloquy import ConversationClient


class Verdict(StrEnum):
    """A rating, or none."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"


def rate(
    context: typer.Context,
    verdict: Annotated[Verdict, typer.Argument(help="`none` takes the rating back.")],
    reply: Annotated[
        str | None,
        typer.Argument(
            help="The reply's whole id (`show --ids` tells it), or a conversation, whose last "
            "reply is rated.",
            metavar="REPLY|CONVERSATION",
        ),
    ] = None,
    last: Annotated[
        bool,
        typer.Option("--last", "-l", help="The last reply of the conversation used last."),
    ] = False,
    comment: Annotated[
        str, typer.Option("--comment", "-m", help="What else there is to say.", metavar="TEXT")
    ] = "",
) -> None:
    """Rate a reply."""
    from colloquy.api.resources_pb2 import Rating

    if bool(reply) == last:
        usage_error("name a reply or a conversation, or say --last")
    if verdict is Verdict.NONE and comment:
        usage_error("a rating that is taken back has no comment")
    name = "RATING_UNSPECIFIED" if verdict is Verdict.NONE else f"RATING_{verdict.name}"
    with connection_of(context).client() as client:
        client.rate_reply(_reply(client, reply), Rating.Value(name), comment=comment)


def _reply(client: ConversationClient, named: str | None) -> str:
    """Return the id of the reply that is named, or of the last one of what is named."""
    from colloquy.api.resources_pb2 import Message
    from colloquy.errors import NotFound

    if named is None:
        conversation_id = next((found.id for found in client.conversations()), "")
        if not conversation_id:
            usage_error("there is no conversation yet")
    elif is_whole_id(named):
        try:
            return client.get_message(named).id
        except NotFound:
            conversation_id = named
    else:
        conversation_id = find_conversation(client, named)
    last = ""
    for message in client.messages(conversation_id):
        if message.role == Message.ROLE_ASSISTANT:
            last = message.id
    if not last:
        usage_error("there is no reply in this conversation yet")
    return last
