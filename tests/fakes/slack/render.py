"""A channel as text and as a page."""

from __future__ import annotations

import base64
import datetime
import html
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakes.slack.blocks import shown
from tests.fakes.slack.render_blocks import blocks_html, markdown_html, mrkdwn_html
from tests.fakes.slack.state import Channel, File, Message, User, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

_EMOJI = {
    "+1": "👍",
    "-1": "👎",
    "eyes": "👀",
    "hourglass_flowing_sand": "⏳",
    "octagonal_sign": "🛑",
    "thumbsdown": "👎",
    "thumbsup": "👍",
    "white_check_mark": "✅",
}


def channel_text(slack: SlackDouble, channel: Channel) -> str:
    """Who said what, replies indented; buttons and the like are left out."""
    workspace = slack.workspaces[channel.team_id]
    lines = []
    for message in _in_order(channel, None):
        indent = "  " if message.is_reply else ""
        name = _author(slack, workspace, message).shown_name
        words = _named(workspace, shown(message)).replace("\n", f"\n{indent}  ")
        edited = " (edited)" if message.edited else ""
        lines.append(f"{indent}{name}: {words}{edited}")
        lines += [f"{indent}  [file] {file.name}" for file in message.files]
    return "\n".join(lines)


def channel_html(
    slack: SlackDouble, channel: Channel, thread_ts: str | None, *, viewer: str | None = None
) -> str:
    """A whole page. `viewer`: also what the app showed to this person alone."""
    workspace = slack.workspaces[channel.team_id]
    title = f"# {channel.name}" if channel.name else "Direct message"
    if thread_ts is not None:
        title = f"Thread <small>{html.escape(title)}</small>"
    style = (Path(__file__).parent / "page.css").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(workspace.name)}</title><style>{style}</style></head><body><main>"
        f"<header>{title}</header>"
        f'<div id="messages">{messages_html(slack, channel, thread_ts, viewer=viewer)}</div>'
        "</main></body></html>"
    )


def messages_html(
    slack: SlackDouble, channel: Channel, thread_ts: str | None, *, viewer: str | None = None
) -> str:
    """The messages alone."""
    workspace = slack.workspaces[channel.team_id]
    parts, day = [], ""
    for message in _in_order(channel, thread_ts):
        indented = message.is_reply and thread_ts is None
        if (today := f"{_time(message):%A, %B %-d}") != day and not indented:
            day = today
            parts.append(f'<div class="day"><span>{day}</span></div>')
        parts.append(_message(slack, workspace, message, indented=indented))
        replies = [m for m in channel.in_thread(message.ts) if m.is_reply and not m.deleted]
        if replies and not message.is_reply:
            noun = "reply" if len(replies) == 1 else "replies"
            parts.append(f'<div class="replies">{len(replies)} {noun}</div>')
    for status_channel, root in workspace.statuses:
        if status_channel == channel.id and thread_ts in (None, root):
            status = slack.status(channel, root)
            if status:
                said = html.escape(f"{slack.app.name} {status}")
                parts.append(f'<div class="status">{said}</div>')
    parts += [
        _message(slack, workspace, message, indented=message.is_reply)
        for message in slack.ephemerals
        if message.ephemeral_to == viewer and message.channel == channel.id and not message.deleted
    ]
    return "".join(parts)


def _message(slack: SlackDouble, workspace: Workspace, message: Message, *, indented: bool) -> str:
    author = _author(slack, workspace, message)
    initials = "".join(word[0] for word in author.shown_name.split()[:2]) or "?"
    colour = "4a154b" if author.is_bot else author.colour
    private = message.ephemeral_to is not None
    lines = ['<div class="only-you">👁 Only visible to you</div>'] if private else []
    badge = '<span class="badge">APP</span>' if author.is_bot else ""
    lines.append(
        f'<div><span class="name">{html.escape(author.shown_name)}</span>{badge}'
        f'<span class="time">{_time(message):%-I:%M %p}</span></div>'
    )
    lines.append(_content(workspace, message))
    if message.edited:
        lines.append('<span class="edited">(edited)</span>')
    if slack.stream_state(message) == "expired":
        lines.append('<div class="notice">Something went wrong</div>')
    lines.append(_files(message.files))
    if message.reactions:
        pills = "".join(
            f"<span>{_EMOJI.get(name, f':{html.escape(name)}:')} {len(users)}</span>"
            for name, users in message.reactions.items()
            if users
        )
        lines.append(f'<div class="reactions">{pills}</div>')
    kind = "message thread" if indented else "message"
    return (
        f'<div class="{kind}" data-ts="{message.ts}">'
        f'<div class="avatar" style="background:#{colour}">{html.escape(initials)}</div>'
        f'<div class="body">{"".join(lines)}</div></div>'
    )


def _content(workspace: Workspace, message: Message) -> str:
    dressing = blocks_html(workspace, message.blocks)
    if message.markdown_text is not None or message.stream is not None:
        return f'<div class="text">{markdown_html(workspace, shown(message))}</div>{dressing}'
    if message.blocks and message.bot_id:
        return dressing
    return f'<div class="text">{mrkdwn_html(workspace, message.text)}</div>'


def _files(files: list[File]) -> str:
    if not files:
        return ""
    cards = []
    for file in files:
        kind = html.escape(file.name.rpartition(".")[2][:4].upper())
        picture = f"<i>{kind}</i>{html.escape(file.name)}"
        if file.mimetype.startswith("image/") and len(file.content) > 100:
            data = base64.b64encode(file.content).decode()
            name = html.escape(file.name)
            picture = f'<img alt="{name}" src="data:{file.mimetype};base64,{data}">'
        cards.append(f'<div class="file">{picture}</div>')
    return f'<div class="files">{"".join(cards)}</div>'


def _in_order(channel: Channel, thread_ts: str | None) -> list[Message]:
    """The messages as a reader meets them: each root, then its replies."""
    roots = [m for m in channel.messages.values() if not m.is_reply]
    if thread_ts is not None:
        roots = [channel.messages[thread_ts]]
    replies = [m for root in roots for m in channel.in_thread(root.ts)]
    return [message for message in replies if not message.deleted]


def _author(slack: SlackDouble, workspace: Workspace, message: Message) -> User:
    user = workspace.users.get(message.user)
    if user is not None:
        return user
    name = "Slackbot" if message.user == "USLACKBOT" else "Another app"
    return User(message.user or "B", workspace.id, name, name, is_bot=True)


def _named(workspace: Workspace, text: str) -> str:
    """Ids of people as their names."""
    for user in workspace.users.values():
        text = text.replace(f"<@{user.id}>", f"@{user.shown_name}")
    return text


def _time(message: Message) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(float(message.ts), datetime.UTC)
