"""`invite`, `remove` and `visibility`: who takes part in a conversation, and who sees it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from colloquy.terminal.commands.conversations import Which
from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import usage_error
from colloquy.terminal.partial_ids import find_conversation, is_whole_id

if TYPE_CHECKING:
    from colloquy.api.resources_pb2 import Conversation


class Audience(StrEnum):
    """Who of an account sees a conversation."""

    ACCOUNT = "account"
    PARTICIPANTS = "participants"


def invite(
    context: typer.Context,
    conversation: Which,
    people: Annotated[
        list[str], typer.Argument(help="Your own names for the users.", metavar="USER")
    ],
) -> None:
    """Invite people: from then on they see the conversation, whoever else does."""
    from colloquy.api.resources_pb2 import User

    users = [User(external_id=name) for name in people]
    with connection_of(context).client() as client:
        client.add_participants(find_conversation(client, conversation), users)


def remove(
    context: typer.Context,
    conversation: Which,
    person: Annotated[
        str, typer.Argument(help="Your own name for the user, or their id.", metavar="USER")
    ],
) -> None:
    """Take somebody, or oneself, out of a conversation.

    Where only participants see it, they see it no more.
    """
    with connection_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        found = client.get_conversation(id_).conversation
        client.remove_participant(id_, _user_id(found, person))


def visibility(
    context: typer.Context,
    conversation: Which,
    audience: Annotated[
        Audience, typer.Argument(help="Everybody of the account, or who takes part in it.")
    ],
) -> None:
    """Say who sees a conversation."""
    with connection_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        client.update_conversation(id_, visibility=visibility_of(audience))


def visibility_of(audience: Audience | None) -> Conversation.Visibility.ValueType:
    """Return the API's value for it; None is nothing said."""
    from colloquy.api.resources_pb2 import Conversation

    if audience is None:
        return Conversation.VISIBILITY_UNSPECIFIED
    return Conversation.Visibility.Value(f"VISIBILITY_{audience.name}")


def _user_id(conversation: Conversation, person: str) -> str:
    """Return the id of who takes part in a conversation or made it."""
    if is_whole_id(person):
        return person
    known = {user.external_id: user.id for user in conversation.participants}
    known.setdefault(conversation.creator.external_id, conversation.creator.id)
    if person not in known:
        usage_error(f"{person!r} takes no part in this conversation")
    return known[person]
