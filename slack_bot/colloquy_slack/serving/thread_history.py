"""Reads in Slack what was said before a request: a thread, or the end of a channel.

An app that is sold outside Slack's Marketplace may read once a minute, and 15 messages: what cannot
be had soon is said, and waited for by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import structlog

from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import InDoubt, RateLimited, Refused
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

PAGE = 200
"""Messages asked for at once: Slack recommends no more."""

MAX_PAGES = 10

MAX_WAIT = 5.0
"""Seconds that a person waits, in all, because Slack allows no more calls at the moment."""

_MIN_WAIT = 0.1
_RETRY_DELAY = 0.5
"""Seconds before a page is asked for again: after a 429, and once after it broke off."""

_ALLOWS_NO_MORE = "Slack allows no more reading at the moment"


@dataclass
class Read:
    """What was read, oldest first, and why it is not all."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""
    is_final: bool = True
    """Whether asking again, later, would give no more."""


async def read_thread(
    runtime: Runtime,
    workspace: Workspace,
    channel_id: str,
    thread_ts: str,
    *,
    after: str,
    before: str,
) -> Read:
    """Read a thread between two ts. Raises TokenRejected."""
    read, patience, cursor = Read(), MAX_WAIT, ""
    for _ in range(MAX_PAGES):
        arguments = {"ts": thread_ts, "oldest": after or None, "cursor": cursor or None}
        page, patience = await _page(
            runtime,
            workspace,
            read,
            patience,
            "conversations.replies",
            channel=channel_id,
            latest=before,
            limit=PAGE,
            **arguments,
        )
        # Slack gives the root of a thread with every page.
        found = [one for one in _messages(page) if after < _ts(one) < before]
        known = {_ts(one) for one in read.messages}
        read.messages += [one for one in found if _ts(one) not in known]
        cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
        if not cursor:
            break
    else:
        read.trouble, read.is_final = f"only {PAGE * MAX_PAGES} are read at once", False
    read.messages.sort(key=_ts)
    return read


async def read_channel(
    runtime: Runtime, workspace: Workspace, channel_id: str, *, before: str, limit: int
) -> Read:
    """Read the last messages of a channel before a ts. Raises TokenRejected."""
    read = Read()
    page, _ = await _page(
        runtime,
        workspace,
        read,
        MAX_WAIT,
        "conversations.history",
        channel=channel_id,
        latest=before,
        limit=limit,
    )
    read.messages = sorted((one for one in _messages(page) if _ts(one) < before), key=_ts)
    return read


async def read_message(
    runtime: Runtime, workspace: Workspace, channel_id: str, thread_ts: str, ts: str
) -> dict[str, Any] | None:
    """Read one message as it is now; None when that is not possible. Raises TokenRejected.

    `thread_ts` is empty, or its own, for a message in no thread.
    """
    is_reply = thread_ts not in ("", ts)
    where = {"ts": thread_ts} if is_reply else {}
    page, _ = await _page(
        runtime,
        workspace,
        Read(),
        MAX_WAIT,
        "conversations.replies" if is_reply else "conversations.history",
        channel=channel_id,
        latest=ts,
        oldest=ts,
        inclusive="true",
        limit=2,
        **where,
    )
    return next((one for one in _messages(page) if _ts(one) == ts), None)


async def _page(
    runtime: Runtime,
    workspace: Workspace,
    read: Read,
    patience: float,
    method: str,
    **arguments: Any,
) -> tuple[dict[str, Any], float]:
    """Return a page and what is left of the patience; an empty page when `read` says why."""
    limiter, is_retried = workspace.limiter, False
    while True:
        wait = limiter.acquire_read()
        if not wait:
            try:
                return await workspace.slack.read(method, **arguments), patience
            except RateLimited as error:
                limiter.back_off_reads(max(error.retry_after, _MIN_WAIT))
                continue
            except Refused as error:
                log.info("thread not read", error=error.error)
                read.trouble = f"Slack refuses it: {error.error}"
                return {}, patience
            except InDoubt as error:
                if is_retried:
                    log.info("thread not read", error=str(error))
                    read.trouble, read.is_final = "Slack did not answer", False
                    return {}, patience
                is_retried, wait = True, _RETRY_DELAY
        if wait > patience:
            read.trouble, read.is_final = _ALLOWS_NO_MORE, False
            return {}, patience
        patience -= wait
        await runtime.sleep(wait)


def _messages(page: dict[str, Any]) -> list[dict[str, Any]]:
    found = page.get("messages")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _ts(message: dict[str, Any]) -> str:
    return str(message.get("ts") or "")
