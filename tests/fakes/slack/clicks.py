"""What people do besides writing: click, choose, command, open, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.fakes.slack import responses
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.state import Channel, Json, Message, User, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


@dataclass
class Posted:
    """A message that a person wrote, and the events that it caused."""

    message: Message
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def ts(self) -> str:
        return self.message.ts

    async def settled(self) -> None:
        """Wait until the app acknowledged all its events (or Slack gave up)."""
        await asyncio.gather(*(delivery.settled() for delivery in self.deliveries))


class Clicks:
    """Somebody at a Slack client, without their keyboard."""

    def __init__(self, slack: SlackDouble, workspace: Workspace, user: User) -> None:
        self.slack = slack
        self.workspace = workspace
        self.user = user

    @property
    def id(self) -> str:
        return self.user.id

    @property
    def direct(self) -> Channel:
        """Their direct messages with the bot."""
        return self.slack.direct_channel(self.workspace, self.user)

    @property
    def home(self) -> Json | None:
        """What App Home shows them."""
        return self.workspace.home_views.get(self.user.id)

    def click(self, where: Message | Posted | Json, action: str) -> Delivery:
        """Press a button, by its action_id or its label, in a message or a view.

        Raises:
            LookupError: there is no such button.
        """
        block, element = _find(where, action)
        value = {"value": element["value"]} if "value" in element else {}
        return self._act(where, block, {**_of(element), **value, "text": element["text"]})

    def choose(self, where: Message | Posted | Json, action: str, option: str) -> Delivery:
        """Choose in a select or an overflow menu, by the option's value or label.

        Raises:
            LookupError: there is no such option.
        """
        block, element = _find(where, action)
        groups = element.get("option_groups") or [{"options": element.get("options", [])}]
        for group in groups:
            for candidate in group["options"]:
                if option in (candidate["value"], candidate["text"]["text"]):
                    act = {**_of(element), "selected_option": candidate}
                    return self._act(where, block, act)
        raise LookupError(f"no option {option!r}")

    def rate(self, message: Message | Posted, good: bool) -> Delivery:
        """Press a thumb of the feedback buttons.

        Raises:
            LookupError: there are none.
        """
        block, element = _find(message, "feedback_buttons")
        button = element["positive_button" if good else "negative_button"]
        act = {**_of(element), "text": button["text"], "value": button["value"]}
        return self._act(message, block, act)

    def submit(self, view: Json, values: Json) -> Delivery:
        """Send a modal: `values` is its state, by block_id and action_id."""
        filled = {**view, "state": {"values": values}}
        payload = {**self._common(), "type": "view_submission", "view": filled, "response_urls": []}
        if view in self.workspace.modals:
            self.workspace.modals.remove(view)
        return self.slack.courier.send("interactive", payload)

    def command(
        self,
        command: str,
        text: str = "",
        channel: Channel | None = None,
        *,
        thread: Message | Posted | str | None = None,
    ) -> Delivery:
        """Type a slash command.

        Raises:
            LookupError: it was typed in a thread, where Slack has none.
        """
        if thread is not None:
            raise LookupError(f"{command} is not supported in threads. Sorry!")
        channel = channel or self.direct
        names = {"im": "directmessage", "group": "privategroup"}
        payload = {
            "token": self.slack.app.verification_token,
            "team_id": self.workspace.id,
            "team_domain": self.workspace.domain,
            "channel_id": channel.id,
            "channel_name": names.get(channel.kind, channel.name),
            "user_id": self.user.id,
            "user_name": self.user.name,
            "command": command,
            "text": text,
            "api_app_id": self.slack.app.id,
            "is_enterprise_install": "false",
            "response_url": responses.new_url(
                self.slack, self.workspace, channel, self.user.id, None
            ),
            "trigger_id": self.slack.new_trigger(),
        }
        delivery = self.slack.courier.send("slash_commands", payload)
        self.slack.background(self._show_response(delivery, channel))
        return delivery

    def open_home(self, tab: str = "home") -> Delivery | None:
        """Open the app: its Home tab, or (`messages`) its direct messages."""
        event: Json = {
            "type": "app_home_opened",
            "user": self.user.id,
            "channel": self.direct.id,
            "tab": tab,
        }
        if tab == "home" and self.home is not None:
            event["view"] = self.home
        return self.slack.events.emit(self.workspace, "app_home_opened", event)

    def look_at(self, channel: Channel) -> Delivery | None:
        """Go to a channel with the app open beside it: app_context_changed."""
        entity = {
            "type": "slack#/types/channel_id",
            "value": channel.id,
            "team_id": self.workspace.id,
        }
        event = {
            "type": "app_context_changed",
            "user": self.user.id,
            "channel": self.direct.id,
            "context": {"entities": [entity]},
        }
        return self.slack.events.emit(self.workspace, "app_context_changed", event)

    def stop(self, channel: Channel, thread: Message | Posted | str) -> Delivery | None:
        """Press Slack's own stop button, which shows while the thread's session is `processing`.

        Raises:
            LookupError: it does not show.
        """
        root = thread if isinstance(thread, str) else thread.ts
        session = self.workspace.sessions.get((channel.id, root))
        running = [
            message
            for message in channel.in_thread(root)
            if self.slack.stream_state(message) == "in_progress"
        ]
        if not running and (session is None or session["status"] != "processing"):
            raise LookupError("no stop button is shown")
        for message in running:
            assert message.stream is not None
            message.stream.state = "stopped_by_user"
        event = {
            "type": "agent_session_stopped",
            "channel": channel.id,
            "thread_ts": root,
            "streaming_message_ts": [message.ts for message in running],
            "user": self.user.id,
        }
        return self.slack.events.emit(self.workspace, "agent_session_stopped", event)

    def sees(self, channel: Channel) -> list[Message]:
        """The messages that the app showed to them alone."""
        return [
            message
            for message in self.slack.ephemerals
            if message.ephemeral_to == self.user.id
            and message.channel == channel.id
            and not message.deleted
        ]

    async def _show_response(self, delivery: Delivery, channel: Channel) -> None:
        """Post what a command's acknowledgement said."""
        await delivery.settled()
        said = delivery.response
        if isinstance(said, dict) and (said.get("text") or said.get("blocks")):
            target = responses.ResponseUrl(
                self.workspace, channel, self.user.id, None, self.slack.clock.time()
            )
            responses.apply(self.slack, target, said)

    def _common(self) -> Json:
        return {
            "user": {
                "id": self.user.id,
                "username": self.user.name,
                "name": self.user.name,
                "team_id": self.workspace.id,
            },
            "api_app_id": self.slack.app.id,
            "token": self.slack.app.verification_token,
            "trigger_id": self.slack.new_trigger(),
            "team": {"id": self.workspace.id, "domain": self.workspace.domain},
            "enterprise": None,
            "is_enterprise_install": False,
        }

    def _act(self, where: Message | Posted | Json, block: Json, action: Json) -> Delivery:
        """Send block_actions."""
        action = {
            **action,
            "block_id": block["block_id"],
            "action_ts": f"{self.slack.clock.time():.6f}",
        }
        payload = {**self._common(), "type": "block_actions", "actions": [action]}
        payload["state"] = {"values": {}}
        if isinstance(where, dict):
            payload |= {"container": {"type": "view", "view_id": where["id"]}, "view": where}
            return self.slack.courier.send("interactive", payload)
        message = message_of(where)
        _, channel = self.slack.place_of(message)
        container: Json = {
            "type": "message",
            "message_ts": message.ts,
            "channel_id": channel.id,
            "is_ephemeral": message.ephemeral_to is not None,
        }
        if message.thread_ts is not None:
            container["thread_ts"] = message.thread_ts
        payload |= {
            "container": container,
            "channel": {"id": channel.id, "name": channel.name or "directmessage"},
            "response_url": responses.new_url(
                self.slack, self.workspace, channel, self.user.id, message
            ),
        }
        if message.ephemeral_to is None:
            payload["message"] = self.slack.messages.to_json(self.workspace, message)
        return self.slack.courier.send("interactive", payload)


def elements(where: Message | Posted | Json) -> Iterator[tuple[Json, Json]]:
    """What can be clicked in a message or view, each with its block."""
    blocks = where["blocks"] if isinstance(where, dict) else message_of(where).blocks
    for block in blocks:
        found = list(block.get("elements") or []) if block["type"] != "rich_text" else []
        found += [block[name] for name in ("accessory", "element") if block.get(name)]
        for element in found:
            if element.get("action_id"):
                yield block, element


def _find(where: Message | Posted | Json, action: str) -> tuple[Json, Json]:
    labels = []
    for block, element in elements(where):
        label = (element.get("text") or {}).get("text") if element["type"] == "button" else None
        labels.append(label or element["action_id"])
        if action in (element["action_id"], label, element["type"]):
            return block, element
    raise LookupError(f"nothing to click is called {action!r}: {labels}")


def _of(element: Json) -> Json:
    return {"type": element["type"], "action_id": element["action_id"]}


def message_of(value: Message | Posted | Json) -> Message:
    assert not isinstance(value, dict)
    return value.message if isinstance(value, Posted) else value
