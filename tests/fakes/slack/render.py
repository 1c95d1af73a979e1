"""A channel as text and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.slack.blocks import shown
from tests.fakes.slack.state import Channel

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


def channel_text(slack: SlackDouble, channel: Channel) -> str:
    """Who said what, replies indented."""
    workspace = slack.workspaces[channel.team_id]
    lines = []
    for root in list(channel.messages.values()):
        if root.is_reply:
            continue
        for message in channel.in_thread(root.ts):
            if message.deleted:
                continue
            user = workspace.users.get(message.user)
            indent = "  " if message.is_reply else ""
            words = shown(message).replace("\n", f"\n{indent}  ")
            lines.append(f"{indent}{user.shown_name if user else message.user}: {words}")
            lines += [f"{indent}  [file] {file.name}" for file in message.files]
    return "\n".join(lines)


def channel_html(slack: SlackDouble, channel: Channel, thread_ts: str | None) -> str:
    raise NotImplementedError
