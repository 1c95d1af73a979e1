"""Takes in what happens in Slack: stored before it is acknowledged, acted upon after that.

What is stored is safe: whichever process holds the workspace's lease sees to it. What follows the
storing (a call to the server, an offer to a person) happens in the background, since Slack waits
three seconds for its acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog
from sqlalchemy.orm import Session

from clients import ColloquyError
from slack_bot import choices, inbox, outbox
from slack_bot.inbox import Asked
from slack_bot.mapping import Place, channel_conversation, request_id, thread_conversation
from slack_bot.models import Kind, Request, State
from slack_bot.routing import Deleted, Edited, Said, read
from slack_bot.slack_api import SlackProblem
from slack_bot.workspace import Tools, Workspace

log = structlog.get_logger()

_LOOKS, _LOOK_EVERY = 10, 0.2
ANSWER_EDIT = "colloquy_answer_edit"


class Intake:
    """The way in, the same in every process."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._background: set[asyncio.Task[None]] = set()

    async def message(self, workspace: Workspace, event: dict[str, Any]) -> None:
        """Take a `message` or `app_mention` event."""
        incoming = read(event, workspace.bot_user_id)
        if isinstance(incoming, Said):
            self._tools.reached("event received")
            await self._said(workspace, incoming)
        elif isinstance(incoming, Edited):
            await self._edited(workspace, incoming)
        elif isinstance(incoming, Deleted):
            await self.stop_at(workspace, incoming.channel_id, incoming.ts)

    async def stop_row(self, workspace: Workspace, row_id: int) -> None:
        """Stop a request."""
        row = await self._tools.db.run(inbox.stop, workspace.team_id, row_id)
        if row is not None:
            self._cancel(workspace, [row])

    async def stop_at(self, workspace: Workspace, channel_id: str, ts: str) -> None:
        """Stop the request that a message made, or the one whose reply it is."""
        db, team_id = self._tools.db, workspace.team_id
        row = await db.run(inbox.by_ts, team_id, channel_id, ts) or await db.run(
            outbox.request_of, team_id, channel_id, ts
        )
        if row is not None:
            await self.stop_row(workspace, row.id)

    async def stop_thread(self, workspace: Workspace, channel_id: str, thread_ts: str) -> None:
        """Stop all that is being answered in a thread."""
        rows = await self._tools.db.run(
            inbox.unfinished_in, workspace.team_id, channel_id, thread_ts
        )
        for row in rows:
            await self.stop_row(workspace, row.id)

    async def repeat(self, workspace: Workspace, row_id: int, user_id: str, action_ts: str) -> None:
        """Have a reply made again, or a message that was refused sent again."""
        for _ in range(_LOOKS):
            if await self._tools.db.run(
                _repeat, workspace.team_id, row_id, user_id, action_ts, self._tools.now()
            ):
                break
            # The button shows a moment before the request is done.
            await self._tools.sleep(_LOOK_EVERY)
        workspace.wake.set()

    async def answer_edit(self, workspace: Workspace, row_id: int, user_id: str) -> bool:
        """Answer an edited message, as its author wishes. Returns whether that is done."""
        accepted = await self._tools.db.run(inbox.accept_offer, workspace.team_id, row_id, user_id)
        workspace.wake.set()
        return accepted

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without Slack waiting for it. What fails is only noted."""
        task = asyncio.create_task(_harmless(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """End what is still done in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _said(self, workspace: Workspace, said: Said) -> None:
        stopped = await self._tools.db.run(_take_in, workspace.team_id, said, self._tools.now())
        self._tools.reached("event stored")
        self._cancel(workspace, stopped)
        workspace.wake.set()

    async def _edited(self, workspace: Workspace, edited: Edited) -> None:
        """Offer to answer an edited message again; one that now calls the bot is a message."""
        db, said = self._tools.db, edited.said
        before = await db.run(inbox.by_ts, workspace.team_id, said.channel_id, said.ts)
        if before is None:
            if said.is_mention:
                await self._said(workspace, said)
            return
        asked = Asked(
            team_id=before.team_id,
            channel_id=before.channel_id,
            ts=f"{said.ts}/{edited.edited_ts}",
            thread_ts=before.thread_ts,
            external_id=before.external_id,
            user_id=before.user_id,
            received_at=self._tools.now(),
            is_direct=before.is_direct,
            text=said.text,
            files=said.files,
            state=State.OFFERED,
        )
        row_id = await db.run(inbox.store, asked)
        if row_id is not None:
            self.start(_offer(workspace, asked, row_id))

    def _cancel(self, workspace: Workspace, rows: Iterable[Request]) -> None:
        """Tell the server, if it knows of it; if not, the note in the inbox tells it later."""
        for row in rows:
            if row.conversation_id:
                self.start(_cancel(workspace, row))
        workspace.wake.set()


def _take_in(s: Session, team_id: str, said: Said, now: float) -> list[Request]:
    """Store a message if it is for the bot. Returns the requests that it stops."""
    asked = _asked(s, team_id, said, now)
    if asked is None:
        return []
    stopped = inbox.store_stop(s, asked) if said.is_stop else None
    if stopped is None:
        inbox.store(s, asked)
    return stopped or []


def _asked(s: Session, team_id: str, said: Said, now: float) -> Asked | None:
    """Return what a message asks for; None when it is not for the bot."""
    thread_ts = said.thread_ts or said.ts
    external_id = thread_conversation(Place(team_id, said.channel_id, thread_ts))
    chosen = choices.of_channel(s, team_id, said.channel_id)
    if chosen.answers_all and not said.is_direct:
        # The answer comes where the question is: in its thread, or in the channel.
        thread_ts = said.thread_ts
        external_id = channel_conversation(team_id, said.channel_id, chosen.chapter)
    elif not (said.is_direct or said.is_mention):
        is_reply = bool(said.thread_ts)
        if not (is_reply and inbox.is_engaged(s, team_id, external_id)):
            return None
    return Asked(
        team_id=team_id,
        channel_id=said.channel_id,
        ts=said.ts,
        thread_ts=thread_ts,
        external_id=external_id,
        user_id=said.user_id,
        received_at=now,
        is_direct=said.is_direct,
        text=said.text,
        files=said.files,
    )


def _repeat(
    s: Session, team_id: str, row_id: int, user_id: str, action_ts: str, now: float
) -> bool:
    """Have a reply made again, or a request that was refused sent again. Returns False when that
    has to wait until the request is done."""
    row = inbox.get(s, team_id, row_id)
    if row is None:
        return True
    if not row.reply_id:
        return inbox.send_again(row)
    if not inbox.is_being_repeated(s, team_id, row.reply_id):
        asked = Asked(
            team_id=team_id,
            channel_id=row.channel_id,
            ts=f"{action_ts}/again",
            thread_ts=row.thread_ts,
            external_id=row.external_id,
            user_id=user_id,
            received_at=now,
            kind=Kind.REGENERATE,
            is_direct=row.is_direct,
            target_reply_id=row.reply_id,
            conversation_id=row.conversation_id,
            content="",
        )
        inbox.store(s, asked)
    return True


async def _cancel(workspace: Workspace, row: Request) -> None:
    await workspace.colloquy.cancel_reply(
        conversation_id=row.conversation_id,
        request_id=request_id(row.team_id, row.channel_id, row.ts),
    )


async def _offer(workspace: Workspace, asked: Asked, row_id: int) -> None:
    words = "You changed your message. Shall I answer it as it now reads?"
    button = {
        "type": "button",
        "action_id": ANSWER_EDIT,
        "text": {"type": "plain_text", "text": "Answer again"},
        "value": str(row_id),
    }
    await workspace.slack.call(
        "chat.postEphemeral",
        channel=asked.channel_id,
        thread_ts=asked.thread_ts or None,
        user=asked.user_id,
        text=words,
        blocks=[
            {"type": "section", "text": {"type": "mrkdwn", "text": words}},
            {"type": "actions", "elements": [button]},
        ],
    )


async def _harmless(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (ColloquyError, SlackProblem) as problem:
        log.info("not done", problem=repr(problem))
