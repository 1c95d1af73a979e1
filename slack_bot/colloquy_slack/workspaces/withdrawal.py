"""Deletes at the server what people deleted in Slack after it was sent there."""

from __future__ import annotations

from contextlib import suppress

from colloquy.errors import NotFound

from colloquy_slack.database import inbox
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.workspace import Workspace


async def withdraw_deleted(runtime: Runtime, workspace: Workspace) -> None:
    """Delete at the server what the deleted messages of a workspace said, with the replies to them;
    the whole conversation where nothing else was ever asked.

    May be repeated, by several processes at once. Raises ColloquyError: the rest is to be deleted
    later.
    """
    colloquy = workspace.colloquy
    for withdrawal in await runtime.db.run(inbox.withdrawals, workspace.team_id):
        with suppress(NotFound):  # somebody was here before
            if withdrawal.is_only:
                await colloquy.delete_conversation(withdrawal.conversation_id)
            else:
                reply = await colloquy.get_message(withdrawal.reply_id)
                await colloquy.delete_message(reply.reply_to)
        await runtime.db.run(inbox.mark_withdrawn, withdrawal.row_id)
