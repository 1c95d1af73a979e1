"""The Events API: what the app hears of, in the words of Slack's event reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.slack.app import EVENT_SCOPES
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.state import Channel, Json, Message, User, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


class Events:
    """Builds events and sends those that the app is subscribed to and may see."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack

    def emit(self, workspace: Workspace, name: str, event: Json) -> Delivery | None:
        """Send an event of this subscription; None: the app does not get it."""
        needed = EVENT_SCOPES.get(name)
        installed = workspace.bot_token is not None or name in {"app_uninstalled", "tokens_revoked"}
        if name not in self.slack.app.events or not installed:
            return None
        if needed is not None and needed not in workspace.scopes:
            return None
        now = self.slack.clock.time()
        event.setdefault("event_ts", f"{now:.6f}")
        payload = {
            "token": self.slack.app.verification_token,
            "team_id": workspace.id,
            "context_team_id": workspace.id,
            "context_enterprise_id": None,
            "api_app_id": self.slack.app.id,
            "event": event,
            "type": "event_callback",
            "event_id": self.slack.ids.next("Ev"),
            "event_time": int(now),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": workspace.id,
                    "user_id": workspace.bot.id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
            "event_context": f"4-{self.slack.ids.next('ctx')}",
        }
        return self.slack.courier.send("events_api", payload)

    def message(
        self, workspace: Workspace, channel: Channel, message: Message, *, mention: bool = True
    ) -> list[Delivery]:
        """A new message: `message`, and `app_mention` beside it when it names the bot."""
        if workspace.bot.id not in channel.members:
            return []
        event = {
            **self.slack.messages.to_json(workspace, message, in_event=True),
            "channel": channel.id,
            "event_ts": message.ts,
            "channel_type": channel.kind,
        }
        sent = [self._in_channel(workspace, channel, event)]
        if mention:
            sent.append(self.app_mention(workspace, channel, message))
        return [delivery for delivery in sent if delivery is not None]

    def app_mention(
        self, workspace: Workspace, channel: Channel, message: Message
    ) -> Delivery | None:
        """The event of a message that names the bot; direct messages have none."""
        named = f"<@{workspace.bot.id}>" in message.text
        if not named or channel.kind == "im" or message.user == workspace.bot.id:
            return None
        event = {
            **self.slack.messages.to_json(workspace, message, in_event=True),
            "type": "app_mention",
            "channel": channel.id,
            "event_ts": message.ts,
        }
        if event.get("subtype") in ("file_share", "thread_broadcast"):
            del event["subtype"]
        return self.emit(workspace, "app_mention", event)

    def changed(
        self, workspace: Workspace, channel: Channel, message: Message, before: Json
    ) -> Delivery | None:
        """message_changed: an edit, but also a link's preview or a new reply in its thread."""
        event = {
            "type": "message",
            "subtype": "message_changed",
            "message": self.slack.messages.to_json(workspace, message, in_event=True),
            "previous_message": before,
            "channel": channel.id,
            "hidden": True,
            "ts": self.slack.messages.next_ts(channel),
            "channel_type": channel.kind,
        }
        event["event_ts"] = event["ts"]
        return self._in_channel(workspace, channel, event)

    def deleted(
        self, workspace: Workspace, channel: Channel, message: Message, before: Json
    ) -> Delivery | None:
        event = {
            "type": "message",
            "subtype": "message_deleted",
            "previous_message": before,
            "channel": channel.id,
            "hidden": True,
            "deleted_ts": message.ts,
            "ts": self.slack.messages.next_ts(channel),
            "channel_type": channel.kind,
        }
        event["event_ts"] = event["ts"]
        return self._in_channel(workspace, channel, event)

    def reaction(
        self,
        workspace: Workspace,
        channel: Channel,
        message: Message,
        user: User,
        name: str,
        verb: str,
    ) -> Delivery | None:
        """`verb` is `added` or `removed`."""
        if workspace.bot.id not in channel.members:
            return None
        event = {
            "type": f"reaction_{verb}",
            "user": user.id,
            "reaction": name,
            "item": {"type": "message", "channel": channel.id, "ts": message.ts},
            "item_user": message.user,
        }
        return self.emit(workspace, f"reaction_{verb}", event)

    def membership(self, channel: Channel, user: User, verb: str) -> Delivery | None:
        """`verb` is `joined` or `left`. Told to members, also of their own leaving."""
        workspace = self.slack.workspaces[channel.team_id]
        if workspace.bot.id not in channel.members | {user.id}:
            return None
        event = {
            "type": f"member_{verb}_channel",
            "user": user.id,
            "channel": channel.id,
            "channel_type": "G" if channel.kind == "group" else "C",
            "team": channel.team_id,
        }
        return self.emit(workspace, f"member_{verb}_channel", event)

    def rate_limited(self, team: str) -> Delivery:
        """app_rate_limited: for a minute nothing of this workspace is sent.

        It is no event_callback: it has no event within it.
        """
        payload = {
            "token": self.slack.app.verification_token,
            "type": "app_rate_limited",
            "team_id": team,
            "minute_rate_limited": int(self.slack.clock.time()) // 60 * 60,
            "api_app_id": self.slack.app.id,
        }
        return self.slack.courier.send("events_api", payload)

    def _in_channel(self, workspace: Workspace, channel: Channel, event: Json) -> Delivery | None:
        if workspace.bot.id not in channel.members:
            return None
        plural = {"channel": "channels", "group": "groups"}.get(channel.kind, channel.kind)
        return self.emit(workspace, f"message.{plural}", event)
