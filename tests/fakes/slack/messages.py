"""Messages: posted, edited, deleted by whomever, shown to the app as Slack shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fakes.slack.blocks import Notification, name_blocks, notifications, shown
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.state import Channel, Json, Message, Version, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


@dataclass(frozen=True)
class Notified:
    """A mention in a message of the bot that Slack would act on."""

    channel: str
    ts: str
    mention: str
    in_code: bool


class Messages:
    """All that changes a channel goes through here, so that events and history never miss it."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack
        self.notified: list[Notified] = []
        """Whom the bot's messages notified, in order."""
        self._last_ts = 0

    def next_ts(self, channel: Channel) -> str:
        """A ts that no message has: microseconds, always increasing."""
        self._last_ts = max(self._last_ts + 1, int(self.slack.clock.time() * 1_000_000))
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def post(self, workspace: Workspace, channel: Channel, **fields: Any) -> Message:
        """Add a message; the events are `Events.message`'s."""
        message = Message(
            channel=channel.id,
            ts=self.next_ts(channel),
            at=self.slack.clock.time(),
            **fields,
        )
        name_blocks(self.slack.ids, message.blocks)
        if message.ephemeral_to is None:
            channel.messages[message.ts] = message
        self._settled(workspace, message)
        self._clear_status(workspace, channel, message)
        return message

    def announce(self, workspace: Workspace, channel: Channel, message: Message) -> list[Delivery]:
        """Send the events of a new message, and those of the thread that it is in."""
        sent = self.slack.events.message(workspace, channel, message)
        parent = channel.messages.get(message.thread)
        if message.is_reply and parent is not None and self.slack.parent_events:
            before = self.to_json(workspace, parent, in_event=True)
            self.slack.events.changed(workspace, channel, parent, before)
        return sent

    def edit(
        self, workspace: Workspace, channel: Channel, message: Message, editor: str, **fields: Any
    ) -> Delivery | None:
        """Change fields of a message. `edited` marks it only where the text was given."""
        before = self.to_json(workspace, message, in_event=True)
        marked = fields.pop("marked", True)
        for name, value in fields.items():
            setattr(message, name, value)
        if marked:
            message.edited = {"user": editor, "ts": self.next_ts(channel)}
        name_blocks(self.slack.ids, message.blocks)
        self._settled(workspace, message)
        return self.slack.events.changed(workspace, channel, message, before)

    def delete(self, workspace: Workspace, channel: Channel, message: Message) -> Delivery | None:
        """Delete; the root of a thread with replies leaves a tombstone."""
        before = self.to_json(workspace, message, in_event=True)
        has_replies = any(other.is_reply for other in channel.in_thread(message.ts))
        if has_replies and not message.is_reply:
            return self.edit(
                workspace,
                channel,
                message,
                "USLACKBOT",
                marked=False,
                subtype="tombstone",
                text="This message was deleted.",
                blocks=[],
                files=[],
                user="USLACKBOT",
            )
        message.deleted = True
        self.slack.recorder.changed()
        return self.slack.events.deleted(workspace, channel, message, before)

    def to_json(
        self,
        workspace: Workspace,
        message: Message,
        *,
        in_event: bool = False,
        metadata: bool = True,
    ) -> Json:
        """A message as events, answers and history carry it."""
        value: Json = {"type": "message", "user": message.user, "ts": message.ts}
        value["text"] = message.text or (message.markdown_text or "")
        value["team"] = workspace.id
        author = workspace.users.get(message.user)
        if author is not None and author.stranger:
            value["user_team"] = value["source_team"] = author.team_id
        for name in ("subtype", "client_msg_id", "username", "blocks", "attachments", "edited"):
            if said := getattr(message, name):
                value[name] = said
        if message.bot_id:
            value |= self._bot(workspace, message.bot_id)
        if message.stream is not None:
            value["text"] = shown(message)
            running = message.stream.state == "in_progress"
            value["streaming_state"] = "in_progress" if running else "completed"
        if message.files:
            value["files"] = [f.in_event() if in_event else f.to_json() for f in message.files]
        if message.metadata and metadata:
            value["metadata"] = message.metadata
        if message.reactions:
            value["reactions"] = [
                {"name": name, "users": users, "count": len(users)}
                for name, users in message.reactions.items()
            ]
        return value | self._thread(workspace, message)

    def as_shared(self, message: Message, *, is_link: bool = False) -> Json:
        """The attachment by which another message forwards this one, or shows what its link leads
        to."""
        workspace, channel = self.slack.place_of(message)
        author = workspace.users.get(message.user)
        link = f"https://{workspace.domain}.slack.com/archives/{channel.id}"
        link += f"/p{message.ts.replace('.', '')}"
        inner = {"blocks": message.blocks}
        value: Json = {
            "id": 1,
            "ts": message.ts,
            "from_url": link,
            "original_url": link,
            "color": "D0D0D0",
            "channel_id": channel.id,
            "channel_name": channel.name,
            "channel_team": workspace.id,
            "author_id": message.user,
            "author_name": author.shown_name if author else message.username or "",
            "author_subname": author.shown_name if author else "",
            "text": message.text,
            "fallback": f"[{message.ts}] {message.text}",
            "footer": f"Posted in #{channel.name}" if channel.name else "From a conversation",
            "mrkdwn_in": ["text"],
            "message_blocks": [
                {"team": workspace.id, "channel": channel.id, "ts": message.ts, "message": inner}
            ],
            "is_msg_unfurl": True,
        }
        if not is_link:
            value["is_share"] = True
        if message.files:
            value["files"] = [file.to_json() for file in message.files]
        if message.attachments:
            value["message_blocks"][0]["message"]["attachments"] = message.attachments
        return value

    def _bot(self, workspace: Workspace, bot_id: str) -> Json:
        if bot_id != workspace.bot_id:
            return {"bot_id": bot_id}
        profile = {
            "id": bot_id,
            "app_id": self.slack.app.id,
            "name": self.slack.app.name,
            "team_id": workspace.id,
            "deleted": False,
        }
        return {"bot_id": bot_id, "app_id": self.slack.app.id, "bot_profile": profile}

    def _thread(self, workspace: Workspace, message: Message) -> Json:
        channel = workspace.channels.get(message.channel)
        if channel is None:
            return {}
        if message.is_reply:
            parent = channel.messages.get(message.thread)
            value: Json = {"thread_ts": message.thread_ts}
            if parent is not None:
                value["parent_user_id"] = parent.user
            return value
        replies = [m for m in channel.in_thread(message.ts) if m.is_reply and not m.deleted]
        if not replies:
            return {}
        return {
            "thread_ts": message.ts,
            "reply_count": len(replies),
            "reply_users": list(dict.fromkeys(reply.user for reply in replies)),
            "latest_reply": replies[-1].ts,
        }

    def _settled(self, workspace: Workspace, message: Message) -> None:
        """Keep the state as a version, and whom it notifies that it did not notify before."""
        message.versions.append(
            Version(self.slack.clock.time(), message.text, list(message.blocks), shown(message))
        )
        if message.bot_id == workspace.bot_id:
            known = {n.mention for n in self.notified if n.ts == message.ts}
            for found in self._notifications(message):
                if found.mention not in known:
                    self.notified.append(
                        Notified(message.channel, message.ts, found.mention, found.in_code)
                    )
        self.slack.recorder.changed()

    def _notifications(self, message: Message) -> list[Notification]:
        markdown = message.markdown_text
        if message.stream is not None and markdown is None:
            markdown = message.stream.text
        return notifications(message.text, message.blocks, markdown)

    def _clear_status(self, workspace: Workspace, channel: Channel, message: Message) -> None:
        """A message of the app in a thread ends the thread's "is thinking"."""
        if message.bot_id == workspace.bot_id:
            workspace.statuses.pop((channel.id, message.thread), None)
