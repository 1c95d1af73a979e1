"""What Bolt calls: each listener stores or answers, and Bolt acknowledges when it returns."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from colloquy.api.resources_pb2 import RATING_BAD, RATING_GOOD, RATING_UNSPECIFIED
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext, AsyncRespond

from colloquy_slack.action_ids import ANSWER_EDIT, FEEDBACK, PICK_MODEL, REGENERATE, STOP, TRY_AGAIN
from colloquy_slack.database import inbox, preferences
from colloquy_slack.external_ids import author
from colloquy_slack.incoming.intake import Intake
from colloquy_slack.incoming.message_events import STOP_REACTIONS
from colloquy_slack.runtime import Runtime
from colloquy_slack.surfaces import app_home, commands
from colloquy_slack.workspaces.registry import Identity, WorkspaceRegistry
from colloquy_slack.workspaces.workspace import Workspace

COMMAND_TIMEOUT = 2.0
"""Seconds that a command may take: Slack waits three, and then says that the app is broken."""

_RATINGS = {"good": RATING_GOOD, "bad": RATING_BAD}
_EVERY_ID = re.compile("")


class NotServed(Exception):
    """The workspace cannot be served now: Slack is to deliver this again."""


class Listeners:
    """One method for each event, button and command that the bot listens to."""

    def __init__(self, runtime: Runtime, workspaces: WorkspaceRegistry, intake: Intake) -> None:
        self._runtime, self._workspaces, self._intake = runtime, workspaces, intake

    def add_to(self, app: AsyncApp) -> None:
        """Register all with Bolt."""
        app.use(self.on_anything)
        app.event("message")(self.on_message)
        app.event("app_mention")(self.on_message)
        app.event("reaction_added")(self.on_reaction)
        app.event("member_joined_channel")(self.on_membership)
        app.event("member_left_channel")(self.on_membership)
        app.event("agent_session_stopped")(self.on_session_stopped)
        app.event("app_home_opened")(self.on_home_opened)
        app.action(STOP)(self.on_stop)
        app.action(REGENERATE)(self.on_repeat)
        app.action(TRY_AGAIN)(self.on_repeat)
        app.action(FEEDBACK)(self.on_feedback)
        app.action(ANSWER_EDIT)(self.on_answer_edit)
        app.action(PICK_MODEL)(self.on_pick_model)
        app.command("/colloquy")(self.on_command)
        # The rest is acknowledged: Bolt would otherwise log it, with what people wrote.
        app.event(_EVERY_ID)(_ignore)
        app.action(_EVERY_ID)(_acknowledge)

    async def on_anything(
        self,
        body: dict[str, Any],
        next: Callable[[], Awaitable[None]],  # noqa: A002 - Bolt's name
    ) -> None:
        """Something came from Slack, whatever it is."""
        kind = "action" if "actions" in body else "command" if "command" in body else ""
        self._runtime.telemetry.received(kind or str((body.get("event") or {}).get("type")))
        await next()

    # Events.

    async def on_message(self, event: dict[str, Any], context: AsyncBoltContext) -> None:
        """Somebody wrote, edited or deleted a message."""
        await self._intake.message(await self._identity(context), event)

    async def on_reaction(self, event: dict[str, Any], context: AsyncBoltContext) -> None:
        """Somebody reacted: 🛑 stops the reply that it is put on, or that of the message."""
        item = event.get("item") or {}
        if event.get("reaction") in STOP_REACTIONS and item.get("type") == "message":
            team_id = (await self._identity(context)).team_id
            await self._intake.stop_at(team_id, str(item["channel"]), str(item["ts"]))

    async def on_membership(self, event: dict[str, Any], context: AsyncBoltContext) -> None:
        """Somebody came into a channel, or left it."""
        team_id = (await self._identity(context)).team_id
        await self._intake.channel_changed(team_id, str(event.get("channel")), is_new=False)

    async def on_session_stopped(self, event: dict[str, Any], context: AsyncBoltContext) -> None:
        """Somebody pressed Slack's own stop button."""
        team_id = (await self._identity(context)).team_id
        channel_id, thread_ts = str(event.get("channel")), str(event.get("thread_ts"))
        await self._intake.stop_thread(team_id, channel_id, thread_ts)

    async def on_home_opened(self, event: dict[str, Any], context: AsyncBoltContext) -> None:
        """Somebody opened the app: its Home, or its messages."""
        workspace = await self._workspace(context)
        if event.get("tab") == "home":
            self._intake.run_in_background(
                app_home.publish(self._runtime, workspace, str(event["user"]))
            )
        elif event.get("tab") == "messages":
            self._intake.run_in_background(
                app_home.suggest_prompts(workspace, str(event["channel"]))
            )

    # Clicks.

    async def on_stop(
        self, ack: AsyncAck, action: dict[str, Any], context: AsyncBoltContext
    ) -> None:
        """Somebody pressed Stop."""
        team_id = (await self._identity(context)).team_id
        await self._intake.stop_request(team_id, _row_id(action.get("value")))
        await ack()

    async def on_repeat(
        self,
        ack: AsyncAck,
        action: dict[str, Any],
        body: dict[str, Any],
        context: AsyncBoltContext,
    ) -> None:
        """Somebody pressed Regenerate or Try again."""
        await self._intake.repeat(
            (await self._identity(context)).team_id,
            _row_id(action.get("value")),
            str(body["user"]["id"]),
            str(action["action_ts"]),
        )
        await ack()

    async def on_feedback(
        self,
        ack: AsyncAck,
        action: dict[str, Any],
        body: dict[str, Any],
        context: AsyncBoltContext,
    ) -> None:
        """Somebody pressed a thumb."""
        workspace = await self._workspace(context)
        rating, _, value = str(action.get("value") or "").partition(":")
        row = await self._runtime.db.run(inbox.get, workspace.team_id, _row_id(value))
        if row is not None and row.reply_id:
            self._intake.run_in_background(
                self._rate(workspace, row.reply_id, rating, str(body["user"]["id"]))
            )
        await ack()

    async def _rate(self, workspace: Workspace, reply_id: str, rating: str, user_id: str) -> None:
        who = await workspace.profile(user_id, self._runtime.now())
        await workspace.colloquy.rate_reply(
            reply_id,
            _RATINGS.get(rating, RATING_UNSPECIFIED),
            author=author(workspace.team_id, user_id, who.name, who.avatar_url, who.email),
        )

    async def on_answer_edit(
        self,
        ack: AsyncAck,
        action: dict[str, Any],
        body: dict[str, Any],
        context: AsyncBoltContext,
        respond: AsyncRespond,
    ) -> None:
        """Somebody pressed Answer again, on the offer to answer an edited message."""
        team_id = (await self._identity(context)).team_id
        row_id, user_id = _row_id(action.get("value")), str(body["user"]["id"])
        await self._intake.answer_edit(team_id, row_id, user_id)
        await ack()
        self._intake.run_in_background(_remove_offer(respond))

    async def on_pick_model(
        self,
        ack: AsyncAck,
        action: dict[str, Any],
        body: dict[str, Any],
        context: AsyncBoltContext,
    ) -> None:
        """Somebody picked a model in App Home."""
        team_id, user_id = (await self._identity(context)).team_id, str(body["user"]["id"])
        model = app_home.model_of_option(
            str((action.get("selected_option") or {}).get("value") or "")
        )
        # What was picked was there; should it be gone by now, the default one answers.
        await self._runtime.db.run(preferences.set_user_model, team_id, user_id, model)
        await ack()

    async def on_command(
        self, ack: AsyncAck, command: dict[str, Any], context: AsyncBoltContext
    ) -> None:
        """Somebody typed /colloquy."""
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                answer = await commands.run(
                    self._runtime,
                    await self._workspace(context),
                    str(command.get("text") or ""),
                    str(command["channel_id"]),
                    str(command["user_id"]),
                )
        except TimeoutError:
            answer = commands.SERVER_UNREACHABLE
        await ack(text=answer, response_type="ephemeral")

    async def _identity(self, context: AsyncBoltContext) -> Identity:
        identity = await self._workspaces.identify(context.team_id)
        if identity is None:
            raise NotServed
        return identity

    async def _workspace(self, context: AsyncBoltContext) -> Workspace:
        workspace = await self._workspaces.get(context.team_id)
        if workspace is None:
            raise NotServed
        return workspace


def _row_id(value: Any) -> int:
    """Return the request that a button is for; 0, which there is none of, when it says none."""
    return int(value) if str(value).isdecimal() else 0


async def _remove_offer(respond: AsyncRespond) -> None:
    await respond(delete_original=True)


async def _ignore() -> None:
    """Acknowledge an event that the bot has no use for."""


async def _acknowledge(ack: AsyncAck) -> None:
    await ack()
