"""Takes in what happens in Slack: stored before it is acknowledged, acted upon after that.

What is stored is safe: whichever process holds the workspace's lease sees to it, also to what is
to be stopped. Storing needs neither Slack nor the server. What follows it (an offer to a person)
happens in the background, since Slack waits three seconds for its acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import structlog
from colloquy import ColloquyError
from sqlalchemy.orm import Session

from colloquy_slack.action_ids import ANSWER_EDIT
from colloquy_slack.database import inbox, outbox, preferences
from colloquy_slack.database.inbox import Asked
from colloquy_slack.database.models import Kind, State
from colloquy_slack.external_ids import Place, channel_conversation, thread_conversation
from colloquy_slack.incoming import unaddressed_replies
from colloquy_slack.incoming.message_events import Deleted, Edited, Said, read
from colloquy_slack.slack_api import SlackProblem
from colloquy_slack.workspaces.registry import Identity, Workspaces
from colloquy_slack.workspaces.workspace import Tools

log = structlog.get_logger()

_LOOKS, _LOOK_EVERY = 10, 0.2
_TELL_PATIENCE = 120.0
"""Seconds that it may take until Slack shows something to a person."""

_CHANGED = "You changed your message. Shall I answer it as it now reads?"
_NOTHING_TO_STOP = "I am not writing anything here at the moment."


class Intake:
    """The way in, the same in every process."""

    def __init__(self, tools: Tools, workspaces: Workspaces) -> None:
        self._tools, self._workspaces = tools, workspaces
        self._background: set[asyncio.Task[None]] = set()
        # The offers to answer an edited message that this process made.
        self._offered: set[int] = set()

    async def message(self, identity: Identity, event: dict[str, Any]) -> None:
        """Take a `message` or `app_mention` event."""
        incoming = read(event, identity.bot_user_id)
        if isinstance(incoming, Said):
            self._tools.reached("event received")
            await self._said(identity.team_id, incoming)
        elif isinstance(incoming, Edited):
            await self._edited(identity.team_id, incoming)
        elif isinstance(incoming, Deleted):
            await self._tools.db.run(_take_back, identity.team_id, incoming, self._tools.now())
            self._workspaces.wake(identity.team_id)

    async def stop_row(self, team_id: str, row_id: int) -> None:
        """Stop a request."""
        await self._tools.db.run(inbox.stop, team_id, row_id)
        self._workspaces.wake(team_id)

    async def stop_at(self, team_id: str, channel_id: str, ts: str) -> None:
        """Stop the request that a message made, or the one whose reply it is."""
        db = self._tools.db
        row = await db.run(inbox.by_ts, team_id, channel_id, ts) or await db.run(
            outbox.request_of, team_id, channel_id, ts
        )
        if row is not None:
            await self.stop_row(team_id, row.id)

    async def stop_thread(self, team_id: str, channel_id: str, thread_ts: str) -> None:
        """Stop all that is being answered in a thread."""
        for row in await self._tools.db.run(inbox.unfinished_in, team_id, channel_id, thread_ts):
            await self.stop_row(team_id, row.id)

    async def repeat(self, team_id: str, row_id: int, user_id: str, action_ts: str) -> None:
        """Have a reply made again, or a message that was refused sent again."""
        for _ in range(_LOOKS):
            if await self._tools.db.run(
                _repeat, team_id, row_id, user_id, action_ts, self._tools.now()
            ):
                break
            # The button shows a moment before the request is done.
            await self._tools.sleep(_LOOK_EVERY)
        self._workspaces.wake(team_id)

    async def answer_edit(self, team_id: str, row_id: int, user_id: str) -> bool:
        """Answer an edited message, as its author wishes. Returns whether that is done."""
        accepted = await self._tools.db.run(inbox.accept_offer, team_id, row_id, user_id)
        self._workspaces.wake(team_id)
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

    async def _said(self, team_id: str, said: Said) -> None:
        idle = await self._tools.db.run(_take_in, team_id, said, self._tools.now())
        self._tools.reached("event stored")
        self._workspaces.wake(team_id)
        if idle is not None:
            self.start(self._tell(idle, _NOTHING_TO_STOP))

    async def _edited(self, team_id: str, edited: Edited) -> None:
        """Offer to answer an edited message again; one that now calls the bot is a message."""
        db, said = self._tools.db, edited.said
        before = await db.run(inbox.by_ts, team_id, said.channel_id, said.ts)
        if before is None:
            if said.is_mention:
                await self._said(team_id, said)
            return
        if said.text == before.text:
            # Slack tells of more than changed words: a preview came, another edit was taken back.
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
        row_id = await db.run(inbox.store_offer, asked)
        # Slack says it again when a process died before it was told.
        if row_id is not None and row_id not in self._offered:
            self._offered.add(row_id)
            self.start(self._make_offer(asked, row_id))

    async def _make_offer(self, asked: Asked, row_id: int) -> None:
        try:
            await self._tell(asked, _CHANGED, _offer(row_id))
        except SlackProblem:
            self._offered.discard(row_id)
            raise

    async def _tell(self, asked: Asked, words: str, *more: dict[str, Any]) -> None:
        """Tell something to who wrote, and to nobody else."""
        workspace = await self._workspaces.get(asked.team_id)
        if workspace is None:
            return
        section = {"type": "section", "text": {"type": "mrkdwn", "text": words}}
        await workspace.slack.call_patiently(
            "chat.postEphemeral",
            patience=_TELL_PATIENCE,
            channel=asked.channel_id,
            thread_ts=asked.thread_ts or None,
            user=asked.user_id,
            text=words,
            blocks=[section, *more],
        )


def _take_in(s: Session, team_id: str, said: Said, now: float) -> Asked | None:
    """Store a message if it is for the bot. Returns one that would stop, but nothing is written."""
    is_reply = bool(said.thread_ts) and not said.is_direct
    if is_reply or said.is_mention:
        unaddressed_replies.one_at_a_time(s, team_id, said.thread_ts or said.ts)
    asked = _asked(s, team_id, said, now)
    if asked is None:
        if is_reply:
            unaddressed_replies.keep(s, team_id, said, now)
        return None
    if not said.is_stop:
        if inbox.store(s, asked) is not None and said.is_mention:
            for later in unaddressed_replies.take(s, team_id, said, now):
                _take_in(s, team_id, later, now)
        return None
    # A message that is in no thread begins one: it means all that is being written in the channel.
    begins = not said.thread_ts and (said.is_direct or said.is_mention)
    if inbox.store_stop(s, asked, None if begins else asked.thread_ts):
        return None
    is_new = inbox.store(s, replace(asked, state=State.DONE)) is not None
    return asked if is_new else None


def _take_back(s: Session, team_id: str, deleted: Deleted, now: float) -> None:
    """Note a deletion, also one that Slack delivers before the message."""
    unaddressed_replies.forget(s, team_id, deleted.channel_id, deleted.ts)
    if inbox.take_back(s, team_id, deleted.channel_id, deleted.ts) or deleted.said is None:
        return
    asked = _asked(s, team_id, deleted.said, now)
    if asked is not None:
        inbox.store_deleted(s, asked)


def _asked(s: Session, team_id: str, said: Said, now: float) -> Asked | None:
    """Return what a message asks for; None when it is not for the bot."""
    thread_ts = said.thread_ts or said.ts
    external_id = thread_conversation(Place(team_id, said.channel_id, thread_ts))
    chosen = preferences.of_channel(s, team_id, said.channel_id)
    if chosen.answers_all and not said.is_direct:
        # The answer comes where the question is: in its thread, or in the channel.
        thread_ts = said.thread_ts
        external_id = channel_conversation(team_id, said.channel_id, chosen.chapter)
    elif not (said.is_direct or said.is_mention):
        if not said.thread_ts:
            return None
        if not inbox.is_engaged(s, team_id, external_id):
            # Under an answer in the channel itself, the channel's conversation goes on.
            above = outbox.request_of(s, team_id, said.channel_id, said.thread_ts)
            if above is None:
                return None
            external_id = above.external_id
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


def _offer(row_id: int) -> dict[str, Any]:
    button = {
        "type": "button",
        "action_id": ANSWER_EDIT,
        "text": {"type": "plain_text", "text": "Answer again"},
        "value": str(row_id),
    }
    return {"type": "actions", "elements": [button]}


async def _harmless(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (ColloquyError, SlackProblem) as problem:
        log.info("not done", problem=repr(problem))
