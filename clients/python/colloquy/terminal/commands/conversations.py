"""`list`, `show`, `watch`, `delete` and `delete-message`: the conversations that there are."""

from __future__ import annotations

import itertools
import shutil
import sys
from typing import Annotated

import typer

from colloquy.terminal.connection import connection_of
from colloquy.terminal.console import confirm, note, print_lines, screen, usage_error
from colloquy.terminal.partial_ids import find_conversation, is_whole_id

Which = Annotated[
    str, typer.Argument(help="Its id, or how that begins or ends.", metavar="CONVERSATION")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def list_conversations(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    archived: Annotated[
        bool, typer.Option("--archived", help="Those that are archived, which are else left out.")
    ] = False,
    pinned: Annotated[bool, typer.Option("--pinned", help="Only those that you pinned.")] = False,
    unread: Annotated[
        bool, typer.Option("--unread", help="Only those with something you did not read.")
    ] = False,
    json: AsJsonLines = False,
) -> None:
    """List the conversations, the one with the latest activity first.

    On a pipe: id, time of the last message in UTC, number of messages, model and title, with tabs
    between them.
    """
    from colloquy.terminal.conversation_renderer import conversation_fields, news_of, title_of
    from colloquy.terminal.formatting import clean_line, local_time, to_json, to_tsv
    from colloquy.terminal.tables import Column, Row, print_table

    console = screen()
    with connection_of(context).client() as client:
        wanted = client.conversations(archived=archived, pinned=pinned or None)
        found = list(itertools.islice((c for c in wanted if c.unread_count or not unread), limit))
    if json or not console.is_terminal:
        print_lines(to_json(c) if json else to_tsv(conversation_fields(c)) for c in found)
        return
    if not found:
        is_all = not (archived or pinned or unread)
        note("no conversations yet: begin one with `chat`" if is_all else "no such conversations")
        return
    columns = (
        Column("ID"),
        Column("Last message"),
        Column("Messages", "{} messages"),
        Column("New"),
        Column("Model"),
        Column("Title"),
    )
    rows = [
        Row(
            (
                clean_line(c.id),
                local_time(c.last_message_time),
                str(c.message_count),
                news_of(c),
                clean_line(c.model),
                title_of(c),
            )
        )
        for c in found
    ]
    print_table(console, columns, rows)


def show(
    context: typer.Context,
    conversation: Which,
    json: AsJson = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the messages' ids too.")] = False,
) -> None:
    """Print a conversation with all its messages."""
    from colloquy.terminal.conversation_renderer import (
        audience_of,
        expiry_of,
        print_message,
        title_of,
        to_markdown,
        to_object,
    )
    from colloquy.terminal.formatting import clean_line, dump

    console = screen()
    with connection_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        found = client.get_conversation(id_).conversation
        messages = client.messages(id_)
        if json:
            print_lines([dump(to_object(found, messages))])
        elif not console.is_terminal:
            sys.stdout.writelines(to_markdown(found, messages, with_ids=ids))
        else:
            console.print(title_of(found), style="bold")
            for line in (found.id, found.model, audience_of(found), expiry_of(found)):
                if line:
                    console.print(clean_line(line), style="dim", soft_wrap=True)
            console.print()
            for message in messages:
                print_message(console, message, with_id=ids)


def watch(context: typer.Context, conversation: Which, json: AsJsonLines = False) -> None:
    """Print what happens in a conversation, until it is deleted or Ctrl-C.

    With --json each line is a ConversationEvent; its resume_token is valid in WatchConversation.
    """
    from colloquy.terminal.formatting import to_json
    from colloquy.terminal.watch_renderer import WatchRenderer

    width = (lambda: shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
    renderer = WatchRenderer(sys.stdout, width)
    with connection_of(context).client() as client:
        id_ = find_conversation(client, conversation)
        with client.watch(id_) as events:
            for event in events:
                if json:
                    print_lines([to_json(event)])
                else:
                    renderer.render(event)


def delete(
    context: typer.Context,
    conversation: Which,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a conversation with its messages and files, for everybody who takes part in it."""
    from colloquy.terminal.conversation_renderer import title_of

    with connection_of(context).client() as client:
        found = client.get_conversation(find_conversation(client, conversation)).conversation
        confirm(f"Delete {title_of(found)} ({found.id}), {found.message_count} messages?", yes)
        client.delete_conversation(found.id)


def delete_message(
    context: typer.Context,
    message: Annotated[
        str,
        typer.Argument(help="Its whole id; `show --ids` tells it.", metavar="MESSAGE"),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what somebody said, with its files and the replies to it, for everybody."""
    if not is_whole_id(message):
        usage_error(f"{message!r} is not the id of a message: `show --ids` tells them")
    with connection_of(context).client() as client:
        confirm(f"Delete the message {message} and the replies to it?", yes)
        client.delete_message(message)
