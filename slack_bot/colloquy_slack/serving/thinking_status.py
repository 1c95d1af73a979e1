"""Has Slack show its own status ("is thinking…") while there is nothing of a reply yet."""

from __future__ import annotations

from colloquy_slack.database.models import Request
from colloquy_slack.outgoing.delivery import Delivery
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import Refused, SlackError
from colloquy_slack.workspaces.workspace import Workspace

_STATUS_INTERVAL = 90.0
"""Seconds between two statuses: Slack takes one away after two minutes."""

# Slack has no status to show here, and will not have one later.
_UNSUPPORTED = {"unknown_method", "missing_scope", "method_deprecated", "feature_not_enabled"}


async def show_thinking(
    runtime: Runtime, workspace: Workspace, request: Request, delivery: Delivery
) -> None:
    """Set the status again and again, where Slack shows one, until the delivery needs none."""
    # Elsewhere the first message says it, about as soon, and ends a status.
    is_wanted = request.is_direct or workspace.is_native
    if not (is_wanted and request.thread_ts and workspace.has_status):
        return
    while delivery.needs_status:
        try:
            await workspace.slack.call(
                "assistant.threads.setStatus",
                channel_id=request.channel_id,
                thread_ts=request.thread_ts,
                status="is thinking…",
            )
        except SlackError as error:
            if isinstance(error, Refused) and error.error in _UNSUPPORTED:
                workspace.has_status = False
            delivery.miss_status()
            return
        await runtime.sleep(_STATUS_INTERVAL)
