"""Tells a person in private that Slack refused the answer which they wait for."""

from __future__ import annotations

import structlog

from colloquy_slack.database.models import Request
from colloquy_slack.slack_api import SlackError
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

_MAX_WAIT = 60.0
"""Seconds that it may take in all, for each of the two ways."""

_REASONS = {
    "channel_not_found": "I am not in the channel any more.",
    "not_in_channel": "I am not in the channel. Invite me with `/invite`.",
    "is_archived": "the channel is archived.",
    "is_inactive": "the channel is not in use any more.",
    "cannot_reply_to_message": "Slack takes no replies to that message.",
    "missing_scope": "I lack a permission. Whoever installed me must do so again.",
    "restricted_action_thread_locked": "the thread is locked.",
    "team_access_not_granted": "I was not given access to this workspace.",
    "thread_not_found": "the thread was deleted.",
}
_RESTRICTED = "only some may post there, and I am not one of them."


async def tell_refusal(workspace: Workspace, request: Request, error: str) -> None:
    """Tell the author of a request why Slack refuses the answer, if Slack lets them be told.

    `error` is Slack's word for it. In a direct message that is refused there is no other way.
    """
    if request.is_direct:
        return
    reason = _REASONS.get(error)
    if reason is None:
        reason = _RESTRICTED if error.startswith("restricted_action") else f"Slack says `{error}`."
    text = f"I could not answer you in <#{request.channel_id}>: {reason}"
    slack, user_id = workspace.slack, request.user_id
    try:
        await slack.call_with_retries(
            "chat.postEphemeral", _MAX_WAIT, channel=request.channel_id, user=user_id, text=text
        )
    except SlackError:
        # Where the bot may not post, this mostly fails too.
        try:
            await slack.call_with_retries("chat.postMessage", _MAX_WAIT, channel=user_id, text=text)
        except SlackError as refused:
            log.warning("refusal not told", request=request.id, error=str(refused))
