"""Scripted people: they write, edit, share files, click, choose, command and stop."""

from __future__ import annotations

import html
import mimetypes
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.slack.clicks import Clicks, Posted, message_of
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.state import Channel, File, Json, Message

_URL = re.compile(r"(?<![<\w])https?://[^\s<>]+")
_WIRE_MENTION = re.compile(r"(<@[A-Z0-9]+>)")


@dataclass
class Upload:
    """A file that somebody shares."""

    name: str
    content: bytes
    mimetype: str = ""
    connect: bool = False
    """Shared from another company: the event says only `check_file_info`."""
    extra: Json = field(default_factory=dict)
    """What else Slack says of it; see `canvas` and `clip`."""


def canvas(title: str, html: str) -> Upload:
    """A canvas: a document of Slack's own, which is downloaded as HTML whatever its type says."""
    extra = {"title": title, "filetype": "quip", "mode": "quip", "pretty_type": "Canvas"}
    return Upload(title.replace(" ", "_"), html.encode(), "application/vnd.slack-docs", extra=extra)


def clip(content: bytes, mimetype: str = "video/quicktime", suffix: str = "mov") -> Upload:
    """A voice clip as Slack's clients record it: a film's type, and only `subtype` says that it is
    a recording."""
    extra = {
        "subtype": "slack_audio",
        "filetype": suffix,
        "transcription": {"status": "processing"},
    }
    return Upload(f"audio_message.{suffix}", content, mimetype, extra=extra)


class Person(Clicks):
    """Somebody at a Slack client. Methods return at once what can be waited for."""

    def post(
        self,
        channel: Channel,
        text: str = "",
        *,
        thread: Message | Posted | str | None = None,
        mention: bool = False,
        files: Sequence[Upload] = (),
        broadcast: bool = False,
        raw: bool = False,
        table: Sequence[Sequence[str]] = (),
        attachments: Sequence[Json] = (),
        blocks: Sequence[Json] | None = None,
    ) -> Posted:
        """Write in a channel or thread.

        `text` is what is typed: `@Name` becomes a mention, links and `<>&` become what Slack makes
        of them; `raw` keeps it. `mention` puts the bot's name before it. `table` is pasted, cell by
        cell. `blocks` are there in place of those that Slack's client makes of the text.
        """
        wire = text if raw else self.typed(text)
        if mention:
            wire = f"<@{self.workspace.bot.id}> {wire}".rstrip()
        root = thread if isinstance(thread, str) or thread is None else thread.ts
        if root is not None:
            root = channel.messages[root].thread
        shared = [self._share(channel, upload) for upload in files]
        message = self.slack.messages.post(
            self.workspace,
            channel,
            user=self.user.id,
            text=wire,
            blocks=_rich_text(wire) if blocks is None else list(blocks),
            attachments=[*attachments, *([pasted_table(table)] if table else [])],
            thread_ts=root,
            files=shared,
            subtype="file_share" if shared else "thread_broadcast" if broadcast else None,
            broadcast=broadcast,
            client_msg_id=str(uuid.uuid4()),
        )
        return Posted(message, self.slack.messages.announce(self.workspace, channel, message))

    def dm(self, text: str = "", **options: Any) -> Posted:
        """Write to the bot directly."""
        return self.post(self.direct, text, **options)

    def forward(
        self, message: Message | Posted, channel: Channel, text: str = "", **options: Any
    ) -> Posted:
        """Share a message elsewhere, with some words or none; `options` are those of `post`."""
        shared = self.slack.messages.as_shared(message_of(message))
        return self.post(channel, text, attachments=[shared], **options)

    def edit(self, message: Message | Posted, text: str) -> list[Delivery]:
        """Change the words of their message; naming the bot in it is a mention again."""
        target = message_of(message)
        _, channel = self.slack.place_of(target)
        wire = self.typed(text)
        changed = self.slack.messages.edit(
            self.workspace, channel, target, self.user.id, text=wire, blocks=_rich_text(wire)
        )
        mention = self.slack.events.app_mention(self.workspace, channel, target)
        return [delivery for delivery in (changed, mention) if delivery is not None]

    def delete(self, message: Message | Posted) -> Delivery | None:
        target = message_of(message)
        _, channel = self.slack.place_of(target)
        return self.slack.messages.delete(self.workspace, channel, target)

    def react(self, message: Message | Posted, name: str) -> Delivery | None:
        """Add a reaction: `octagonal_sign` is 🛑."""
        target = message_of(message)
        _, channel = self.slack.place_of(target)
        target.reactions.setdefault(name, []).append(self.user.id)
        return self.slack.events.reaction(self.workspace, channel, target, self.user, name, "added")

    def unreact(self, message: Message | Posted, name: str) -> Delivery | None:
        target = message_of(message)
        _, channel = self.slack.place_of(target)
        target.reactions[name].remove(self.user.id)
        return self.slack.events.reaction(
            self.workspace, channel, target, self.user, name, "removed"
        )

    def typed(self, text: str) -> str:
        """What Slack's client sends for a text that is typed."""
        text = html.escape(text, quote=False)
        names = {
            name: user.id
            for user in self.workspace.users.values()
            for name in (user.shown_name, user.name)
        }
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"@{re.escape(name)}\b", f"<@{names[name]}>", text)
        return _URL.sub(lambda match: f"<{match[0]}>", text)

    def _share(self, channel: Channel, upload: Upload) -> File:
        guessed = mimetypes.guess_type(upload.name)[0] or "application/octet-stream"
        file = self.slack.new_file(
            self.workspace, self.user.id, upload.name, upload.content, upload.mimetype or guessed
        )
        file.connect, file.extra = upload.connect, upload.extra
        file.channels.append(channel.id)
        self.workspace.files[file.id] = file
        return file


def pasted_table(rows: Sequence[Sequence[str]]) -> Json:
    """The attachment that a table becomes which somebody pastes: its cells are nowhere else."""
    cells = [[{"type": "raw_text", "text": cell} for cell in row] for row in rows]
    table = {"type": "table", "rows": cells, "column_settings": [{"is_wrapped": True}]}
    return {"id": 1, "blocks": [table], "fallback": "[no preview available]"}


def _rich_text(wire: str) -> list[Json]:
    """The blocks that Slack's client sends beside the text."""
    if not wire:
        return []
    parts: list[Json] = []
    for piece in _WIRE_MENTION.split(wire):
        if _WIRE_MENTION.fullmatch(piece):
            parts.append({"type": "user", "user_id": piece[2:-1]})
        elif piece:
            parts.append({"type": "text", "text": html.unescape(piece)})
    return [
        {
            "type": "rich_text",
            "elements": [{"type": "rich_text_section", "elements": parts}],
        }
    ]
