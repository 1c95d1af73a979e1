"""Replies that Slack streams by itself: chat.startStream and its like.

Text is only ever appended here. Whenever that does not do (the stream expired, the person stopped
it, the reply began anew, Slack refuses) the stream is stopped, and an edit with the whole text
takes over: what was appended by then no longer matters.
"""

from __future__ import annotations

import structlog

from colloquy_slack.database.models import Request
from colloquy_slack.mentions import neutralise
from colloquy_slack.outgoing.chat_api import stop_stream
from colloquy_slack.slack_api import InDoubt, RateLimited, Refused
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

# The workspace does not have the feature: it is not tried again.
_UNSUPPORTED = {"unknown_method", "feature_not_enabled", "feature_disabled", "method_deprecated"}


class NativeStream:
    """The stream that the first message of one reply may be."""

    def __init__(self, workspace: Workspace, request: Request) -> None:
        self._workspace, self._request = workspace, request
        self._sent = ""
        self.ts = ""
        """The message, once it began; empty before that."""
        self.is_stopped_by_user = False

    async def start(self, text: str) -> str:
        """Begin with a text. Returns the message's ts, empty when edits have to do.

        Raises InDoubt.
        """
        if not self._workspace.limiter.acquire_stream():
            return ""
        first = _settled(text)
        try:
            answer = await self._workspace.slack.call(
                "chat.startStream",
                channel=self._request.channel_id,
                thread_ts=self._request.thread_ts,
                markdown_text=first or None,
                recipient_team_id=self._request.team_id,
                recipient_user_id=self._request.user_id,
            )
        except RateLimited:
            # A message has a budget of its own.
            return ""
        except Refused as refused:
            self._note_refusal(refused)
            return ""
        self._sent, self.ts = first, str(answer["ts"])
        return self.ts

    async def append(self, text: str) -> bool:
        """Append what is new of the whole text. Returns False when the stream cannot go on.

        Raises RateLimited, after which the same text may be given again.
        """
        whole = _settled(text)
        if not whole.startswith(self._sent):
            return False
        if whole == self._sent:
            return True
        try:
            await self._workspace.slack.call(
                "chat.appendStream",
                channel=self._request.channel_id,
                ts=self.ts,
                markdown_text=whole[len(self._sent) :],
            )
        except Refused as refused:
            self.is_stopped_by_user = refused.error == "stopped_by_user"
            self._note_refusal(refused)
            return False
        except InDoubt:
            return False
        self._sent = whole
        return True

    async def stop(self) -> None:
        """End the stream, so that the message can be edited. Raises InDoubt and RateLimited."""
        if not self.ts:
            return
        await stop_stream(self._workspace, self._request, self.ts)

    def _note_refusal(self, refused: Refused) -> None:
        if refused.error in _UNSUPPORTED:
            self._workspace.is_native = False
        log.info("native stream refused", error=refused.error)


def _settled(text: str) -> str:
    """Return the text up to its last space: a mention in it is whole, and stays neutralised."""
    end = max(text.rfind(" "), text.rfind("\n")) + 1
    return neutralise(text[:end])
