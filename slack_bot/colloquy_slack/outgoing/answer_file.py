"""Attaches a whole answer as a file, once: its id is stored before it is shared."""

from __future__ import annotations

import aiohttp

from colloquy_slack.database import outbox
from colloquy_slack.database.models import Request
from colloquy_slack.runtime import Runtime
from colloquy_slack.slack_api import InDoubt, Refused
from colloquy_slack.workspaces.workspace import Workspace

_NAME = "answer.md"
_SHARED = "shared"
_SHARED_POLLS, _SHARED_POLL_INTERVAL = 5, 0.5


async def attach_answer(
    runtime: Runtime, workspace: Workspace, request: Request, text: str
) -> None:
    """Share a text as a Markdown file where its reply is. Does nothing when that was done.

    Raises SlackError; after InDoubt it may be called again.
    """
    posts = await runtime.db.run(outbox.posts, request.id)
    file = next((post for post in posts if post.number == outbox.FILE), None)
    if file is not None and file.ts:
        return
    if file is None:
        await runtime.db.run(outbox.intend, request.id, outbox.FILE)
    file_id = file.file_id if file else ""
    if not file_id:
        file_id = await _upload(workspace, text.encode("utf-8", "replace"))
        await runtime.db.run(outbox.record, request.id, outbox.FILE, file_id=file_id)
    elif await _is_shared(runtime, workspace, file_id):
        await runtime.db.run(outbox.record, request.id, outbox.FILE, ts=_SHARED)
        return
    await workspace.slack.call(
        "files.completeUploadExternal",
        files=[{"id": file_id, "title": "The whole answer"}],
        channel_id=request.channel_id,
        thread_ts=request.thread_ts or None,
        initial_comment="The whole answer as a file:",
    )
    await runtime.db.run(outbox.record, request.id, outbox.FILE, ts=_SHARED)


async def _upload(workspace: Workspace, content: bytes) -> str:
    answer = await workspace.slack.read(
        "files.getUploadURLExternal", filename=_NAME, length=len(content)
    )
    session = workspace.slack.client.session
    assert session is not None
    try:
        async with session.post(str(answer["upload_url"]), data=content) as response:
            if response.status != 200:
                raise InDoubt(f"upload: status {response.status}")
    except (TimeoutError, aiohttp.ClientError) as error:
        raise InDoubt(f"upload: {type(error).__name__}") from None
    return str(answer["file_id"])


async def _is_shared(runtime: Runtime, workspace: Workspace, file_id: str) -> bool:
    """Whether a file is where it belongs: Slack says yes before it is."""
    for _ in range(_SHARED_POLLS):
        try:
            answer = await workspace.slack.read("files.info", file=file_id)
        except Refused:
            return False
        file = answer.get("file") or {}
        if any(file.get(where) for where in ("shares", "channels", "groups", "ims")):
            return True
        await runtime.sleep(_SHARED_POLL_INTERVAL)
    return False
