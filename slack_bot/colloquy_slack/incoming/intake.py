"""Takes in what happens in Slack: stored before it is acknowledged, acted upon after that.

What is stored is safe: whichever process owns the workspace's lease sees to it, also to what is
to be stopped. Storing needs neither Slack nor the server. What follows it (an offer to a person)
happens in the background, since Slack waits three seconds for its acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from colloquy import ColloquyError, followed_as

from colloquy_slack.action_ids import ANSWER_EDIT
from colloquy_slack.database import audiences, inbox, outbox
from colloquy_slack.database.inbox import NewRequest
from colloquy_slack.database.models import State
from colloquy_slack.external_ids import request_id
from colloquy_slack.incoming import routing
from colloquy_slack.incoming.message_events import (
    CONVERSIONS,
    MessageDeleted,
    MessageEdited,
    UserMessage,
    parse,
)
from colloquy_slack.incoming.routing import Owed
from colloquy_slack.logs import describe
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import SlackError
from colloquy_slack.surfaces import commands
from colloquy_slack.workspaces.registry import Identity, WorkspaceRegistry
from colloquy_slack.workspaces.withdrawal import withdraw_deleted

log = structlog.get_logger()

_REPEAT_TRIES, _REPEAT_DELAY = 10, 0.2
_NOTIFY_MAX_WAIT = 120.0
"""Seconds that it may take until Slack shows something to a person."""

_CHANGED = "You changed your message. Shall I answer it as it now reads?"
_NOTHING_TO_STOP = "I am not writing anything here at the moment."
_MUTED = "I am muted here. Mention me with the word `unmute`, and ask again."


class Intake:
    """The way in, the same in every process."""

    def __init__(self, runtime: Runtime, workspaces: WorkspaceRegistry) -> None:
        self._runtime, self._workspaces = runtime, workspaces
        self._background: set[asyncio.Task[None]] = set()
        # The offers to answer an edited message that this process made.
        self._offered: set[int] = set()

    async def message(self, identity: Identity, event: dict[str, Any]) -> None:
        """Take in a `message` or `app_mention` event."""
        team_id = identity.team_id
        if event.get("subtype") in CONVERSIONS:
            await self.channel_changed(team_id, str(event.get("channel")), is_new=True)
            return
        parsed = parse(event, identity.bot_user_id)
        if isinstance(parsed, UserMessage):
            self._runtime.failpoint("event received")
            await self._new(team_id, parsed)
        elif isinstance(parsed, MessageEdited):
            await self._edited(team_id, parsed)
        elif isinstance(parsed, MessageDeleted):
            now = self._runtime.now()
            await self._runtime.db.run(routing.store_deletion, team_id, parsed, now)
            self._workspaces.wake(team_id)
            self._runtime.db.note_deletion()
            self.run_in_background(self._withdraw(team_id))

    async def channel_changed(self, team_id: str, channel_id: str, *, is_new: bool) -> None:
        """Have it looked who sees what is said in a channel; with `is_new` also in one that was
        public as far as is known."""
        await self._runtime.db.run(
            audiences.mark_due, team_id, channel_id, self._runtime.now(), is_new=is_new
        )
        self._workspaces.wake(team_id)

    async def stop_request(self, team_id: str, row_id: int) -> None:
        """Stop a request."""
        await self._runtime.db.run(inbox.mark_stopped, team_id, row_id)
        self._workspaces.wake(team_id)

    async def stop_at(self, team_id: str, channel_id: str, ts: str) -> None:
        """Stop the request that a message made, or the one whose reply it is."""
        db = self._runtime.db
        row = await db.run(inbox.by_ts, team_id, channel_id, ts) or await db.run(
            outbox.request_of_post, team_id, channel_id, ts
        )
        if row is not None:
            await self.stop_request(team_id, row.id)

    async def stop_thread(self, team_id: str, channel_id: str, thread_ts: str) -> None:
        """Stop all that is being answered in a thread."""
        for row in await self._runtime.db.run(inbox.unfinished_in, team_id, channel_id, thread_ts):
            await self.stop_request(team_id, row.id)

    async def repeat(self, team_id: str, row_id: int, user_id: str, action_ts: str) -> None:
        """Have a reply regenerated, or a message that was refused sent again."""
        for _ in range(_REPEAT_TRIES):
            if await self._runtime.db.run(
                routing.store_repetition, team_id, row_id, user_id, action_ts, self._runtime.now()
            ):
                break
            # The button shows a moment before the request is done.
            await self._runtime.sleep(_REPEAT_DELAY)
        self._workspaces.wake(team_id)

    async def answer_edit(self, team_id: str, row_id: int, user_id: str) -> bool:
        """Answer an edited message, as its author wishes. Returns whether that is done."""
        accepted = await self._runtime.db.run(inbox.accept_offer, team_id, row_id, user_id)
        self._workspaces.wake(team_id)
        return accepted

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without Slack waiting for it. What fails is only logged."""
        task = asyncio.create_task(_log_failure(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Cancel what still runs in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _new(self, team_id: str, message: UserMessage) -> None:
        response = await self._runtime.db.run(
            routing.store_message, team_id, message, self._runtime.now()
        )
        self._runtime.failpoint("event stored")
        self._workspaces.wake(team_id)
        if response is not None:
            asked = response.request
            with followed_as(request_id(asked.team_id, asked.channel_id, asked.ts)):
                self.run_in_background(self._respond(response))

    async def _respond(self, response: routing.Response) -> None:
        request = response.request
        if response.owed is Owed.COMMAND:
            workspace = await self._workspaces.get(request.team_id)
            if workspace is None:
                return
            is_thread = request.thread_ts not in ("", request.ts)
            text = await commands.run(
                self._runtime,
                workspace,
                response.command,
                request.channel_id,
                request.user_id,
                thread=commands.Thread(request.thread_ts, request.external_id)
                if is_thread
                else None,
            )
        else:
            text = _MUTED if response.owed is Owed.MUTED else _NOTHING_TO_STOP
        await self._notify(request, text)

    async def _withdraw(self, team_id: str) -> None:
        """Delete at the server what was answered and is deleted; what is being answered goes when
        that has ended."""
        if await self._runtime.db.run(inbox.withdrawals, team_id):
            workspace = await self._workspaces.get(team_id)
            if workspace is not None:
                await withdraw_deleted(self._runtime, workspace)

    async def _edited(self, team_id: str, edited: MessageEdited) -> None:
        """Offer to answer an edited message again; one that now calls the bot is a new one."""
        db, message = self._runtime.db, edited.message
        before = await db.run(inbox.by_ts, team_id, message.channel_id, message.ts)
        if before is None:
            if message.is_mention:
                await self._new(team_id, message)
            else:
                await db.run(routing.store_edit, team_id, message)
            return
        if message.text == before.text or not before.external_id:
            # Slack tells of more than changed words: a preview came, another edit was taken back.
            # And what was no question is none now.
            return
        offer = NewRequest(
            team_id=before.team_id,
            channel_id=before.channel_id,
            ts=f"{message.ts}/{edited.edited_ts}",
            thread_ts=before.thread_ts,
            external_id=before.external_id,
            user_id=before.user_id,
            received_at=self._runtime.now(),
            is_direct=before.is_direct,
            text=message.text,
            files=message.files,
            state=State.OFFERED,
        )
        row_id = await db.run(inbox.store_offer, offer)
        # Slack says it again when a process died before it was told.
        if row_id is not None and row_id not in self._offered:
            self._offered.add(row_id)
            self.run_in_background(self._make_offer(offer, row_id))

    async def _make_offer(self, offer: NewRequest, row_id: int) -> None:
        try:
            await self._notify(offer, _CHANGED, _offer_button(row_id))
        except SlackError:
            self._offered.discard(row_id)
            raise

    async def _notify(self, request: NewRequest, text: str, *more: dict[str, Any]) -> None:
        """Tell something to the request's author, and to nobody else."""
        workspace = await self._workspaces.get(request.team_id)
        if workspace is None:
            return
        section = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
        await workspace.slack.call_with_retries(
            "chat.postEphemeral",
            max_wait=_NOTIFY_MAX_WAIT,
            channel=request.channel_id,
            # Slack shows nobody what is said in a thread that has no replies.
            thread_ts=request.thread_ts if request.thread_ts not in ("", request.ts) else None,
            user=request.user_id,
            text=text,
            blocks=[section, *more],
        )


def _offer_button(row_id: int) -> dict[str, Any]:
    button = {
        "type": "button",
        "action_id": ANSWER_EDIT,
        "text": {"type": "plain_text", "text": "Answer again"},
        "value": str(row_id),
    }
    return {"type": "actions", "elements": [button]}


async def _log_failure(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (ColloquyError, SlackError) as error:
        log.info("background work failed", error=describe(error))
