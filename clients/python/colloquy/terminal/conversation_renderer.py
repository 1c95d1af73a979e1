"""Renders a conversation: on a screen, as Markdown, as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from colloquy.api.resources_pb2 import RATING_GOOD, Attachment, Conversation, Message, User
from colloquy.terminal.formatting import as_dict, clean, clean_line, local_time, utc_time
from colloquy.terminal.reply_renderers import outcome, stand_in

if TYPE_CHECKING:
    from rich.console import Console

    from colloquy.api.conversation_service_pb2 import SearchMessagesResponse

_NOWHERE: Mapping[str, Path] = {}
_SEEN_BY: Mapping[int, str] = {
    Conversation.VISIBILITY_ACCOUNT: "seen by the account",
    Conversation.VISIBILITY_PARTICIPANTS: "seen by its participants",
}
_MOST_UNREAD = 100
_UNFINISHED = (Message.STATE_QUEUED, Message.STATE_GENERATING)


def title_of(conversation: Conversation) -> str:
    """Return a title, also for a conversation that has none."""
    return clean_line(conversation.title) or "(no title yet)"


def news_of(conversation: Conversation) -> str:
    """Return what is new in a conversation, and whether it is pinned; `-` when it is neither."""
    count = conversation.unread_count
    news = [f"{count}+ new" if count >= _MOST_UNREAD else f"{count} new"] if count else []
    if conversation.replying:
        news.append("replying")
    if conversation.pinned:
        news.append("pinned")
    return ", ".join(news) or "-"


def audience_of(conversation: Conversation) -> str:
    """Return who sees a conversation, who made it and who takes part in it, as far as is known."""
    told = [_SEEN_BY[conversation.visibility]] if conversation.visibility in _SEEN_BY else []
    if conversation.HasField("creator"):
        told.append(f"made by {_name(conversation.creator)}")
    if conversation.participants:
        told.append(f"with {', '.join(map(_name, conversation.participants))}")
    return ", ".join(told)


def expiry_of(conversation: Conversation) -> str:
    """Return when a conversation is deleted by itself; empty when it is not."""
    when = local_time(conversation.expire_time)
    return f"is deleted on {when}" if when else ""


def speaker(message: Message) -> str:
    """Return who speaks."""
    if message.role == Message.ROLE_ASSISTANT:
        return clean_line(message.model) or "model"
    return _name(message.author)


def _name(user: User) -> str:
    return clean_line(user.display_name or user.external_id) or "user"


def remarks(message: Message) -> list[str]:
    """Return what there is to say about a message beside its text."""
    if message.deleted:
        return ["deleted"]
    found = []
    if message.superseded:
        found.append("a later reply took its place")
    if message.state in _UNFINISHED:
        found.append("not finished yet")
    elif end := outcome(message):
        found.append(end)
    if other := stand_in(message):
        found.append(other)
    if message.rating:
        rated = "rated good" if message.rating == RATING_GOOD else "rated bad"
        comment = clean_line(message.rating_comment)
        found.append(f"{rated}: {comment}" if comment else rated)
    return found


def describe_file(file: Attachment) -> str:
    """Return a file's name, type and size."""
    size = file.byte_size
    amount = f"{size} B" if size < 1_000 else f"{size / 1e3:.1f} kB"
    if size >= 1_000_000:
        amount = f"{size / 1e6:.1f} MB"
    return f"{clean_line(file.filename)} ({clean_line(file.content_type) or 'file'}, {amount})"


def print_message(console: Console, message: Message, *, with_id: bool = False) -> None:
    """Print a message with who said it: replies rendered, users' words as they are."""
    from colloquy.terminal.markdown import render

    is_reply = message.role == Message.ROLE_ASSISTANT
    console.print(speaker(message), style="bold green" if is_reply else "bold cyan", soft_wrap=True)
    if with_id:
        console.print(clean_line(message.id), style="dim", soft_wrap=True)
    if message.content.strip():
        text = message.content.strip("\n")
        console.print(render(text) if is_reply else clean(text))
    for file in message.attachments:
        console.print(f"[file: {describe_file(file)}]", style="dim")
    for remark in remarks(message):
        console.print(f"[{remark}]", style="red" if remark.startswith("failed") else "dim")
    console.print()


def print_hit(console: Console, hit: SearchMessagesResponse.Hit) -> None:
    """Print a message that was found: where it is, and the part that matches."""
    said = hit.message
    when = local_time(said.create_time)
    console.print(f"{speaker(said)} · {when}", style="bold", soft_wrap=True)
    console.print(f"message {clean_line(said.id)}", style="dim", soft_wrap=True)
    console.print(f"conversation {clean_line(said.conversation_id)}", style="dim", soft_wrap=True)
    console.print(f"{clean_line(hit.snippet)}\n")


def to_markdown(
    conversation: Conversation,
    messages: Iterable[Message],
    saved: Mapping[str, Path] = _NOWHERE,
    *,
    with_ids: bool = False,
) -> Iterator[str]:
    """Yield a conversation as Markdown, piece by piece, with the messages' ids if they are wanted;
    files that are `saved` are linked to."""
    yield f"# {title_of(conversation)}\n\n"
    told = (f"Conversation {conversation.id}", conversation.model, audience_of(conversation))
    yield ", ".join(part for part in told if part)
    yield f", begun {local_time(conversation.create_time)}"
    expiry = expiry_of(conversation)
    yield f", {expiry}\n" if expiry else "\n"
    if conversation.system_prompt:
        yield f"\n## System prompt\n\n{clean(conversation.system_prompt).strip()}\n"
    for message in messages:
        id_ = f" · {message.id}" if with_ids else ""
        yield f"\n## {speaker(message)} · {local_time(message.create_time)}{id_}\n"
        if message.content.strip():
            yield f"\n{clean(message.content).strip()}\n"
        for file in message.attachments:
            if file.id in saved:
                target = quote(saved[file.id].as_posix())
                yield f"\n[file: {describe_file(file)}]({target})\n"
            else:
                yield f"\n*[file: {describe_file(file)}]*\n"
        for remark in remarks(message):
            yield f"\n*[{remark}]*\n"


def to_object(
    conversation: Conversation, messages: Iterable[Message], saved: Mapping[str, Path] = _NOWHERE
) -> dict[str, Any]:
    """Return a conversation as one JSON object: `conversation` and `messages`.

    Files that are `saved` have a `path` beside the fields of the API.
    """
    said = [as_dict(message) for message in messages]
    for message in said:
        for file in message["attachments"]:
            if file["id"] in saved:
                file["path"] = saved[file["id"]].as_posix()
    return {"conversation": as_dict(conversation), "messages": said}


def conversation_fields(conversation: Conversation) -> tuple[object, ...]:
    """Return what `list` prints of a conversation on a pipe."""
    return (
        conversation.id,
        utc_time(conversation.last_message_time),
        conversation.message_count,
        conversation.model,
        conversation.title,
    )
