"""files.*: uploads in three steps, and downloads that need the token."""

from __future__ import annotations

import asyncio
import mimetypes
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.slack.api import find_channel, method
from tests.fakes.slack.errors import SlackError, invalid_arguments
from tests.fakes.slack.record import Call
from tests.fakes.slack.state import Channel, File, Json, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

LOGIN_PAGE = """<!DOCTYPE html><html lang="en-US"><head><title>Slack</title></head>
<body><h1>Sign in to your workspace</h1><form action="/signin" method="post">
<input name="domain" placeholder="your-workspace"><button>Continue</button></form></body></html>
"""


@method("files.info", "files:read")
def file_info(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    file = workspace.files.get(str(call.required("file")))
    if file is None:
        raise SlackError("file_not_found")
    return {"file": file.to_json(), "comments": [], "response_metadata": {"next_cursor": ""}}


@method("files.delete", "files:write")
def delete_file(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    if workspace.files.pop(str(call.required("file")), None) is None:
        raise SlackError("file_not_found")
    return {}


@method("files.getUploadURLExternal", "files:write")
def get_upload_url(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    name, length = str(call.required("filename")), int(call.required("length"))
    if length < 1:
        raise invalid_arguments("must be greater than 0 [json-pointer:/length]")
    file = slack.new_file(workspace, workspace.bot.id, name, b"", _mimetype(name))
    slack.uploads[file.id] = (workspace, file, length)
    return {"upload_url": f"{slack.base_url}/upload/v1/{file.id}", "file_id": file.id}


@method("files.completeUploadExternal", "files:write")
def complete_upload(slack: SlackDouble, workspace: Workspace, call: Call) -> Json:
    wanted = call.json("files") or []
    files: list[File] = []
    for item in wanted:
        upload = slack.uploads.pop(item.get("id", ""), None)
        if upload is None or not upload[1].content:
            raise SlackError("file_not_found")
        file = upload[1]
        file.title = item.get("title") or file.name
        workspace.files[file.id] = file
        files.append(file)
    if not files:
        raise invalid_arguments("missing required field: files")
    for name in filter(None, [call.text("channel_id"), *call.text("channels").split(",")]):
        channel = find_channel(slack, workspace, name)
        thread_ts = call.text("thread_ts") or None
        if thread_ts is not None and thread_ts not in channel.messages:
            raise SlackError("thread_not_found")
        slack.background(_share(slack, workspace, channel, call, files))
    return {"files": [file.to_json() for file in files]}


async def _share(
    slack: SlackDouble, workspace: Workspace, channel: Channel, call: Call, files: list[File]
) -> None:
    """Slack answers before the files are shared: https://github.com/slackapi/bolt-js/issues/2115"""
    await asyncio.sleep(slack.share_delay)
    for file in files:
        file.channels.append(channel.id)
    message = slack.messages.post(
        workspace,
        channel,
        user=workspace.bot.id,
        bot_id=workspace.bot_id,
        text=call.text("initial_comment"),
        thread_ts=call.text("thread_ts") or None,
        files=files,
        subtype="file_share",
    )
    slack.messages.announce(workspace, channel, message)


async def take_upload(slack: SlackDouble, request: web.Request) -> web.Response:
    """Serve the upload URL: raw bytes or a form's file, of the length that was announced."""
    upload = slack.uploads.get(request.match_info["file"])
    if upload is None:
        return web.Response(status=404, text="not found")
    if request.content_type == "multipart/form-data":
        form = await request.post()
        part = next(iter(form.values()))
        content = part.file.read() if isinstance(part, web.FileField) else str(part).encode()
    else:
        content = await request.read()
    _, file, length = upload
    if len(content) != length:
        return web.Response(status=400, text="length mismatch")
    file.content = content
    return web.Response(text=f"OK - {length}")


async def download(slack: SlackDouble, request: web.Request) -> web.Response:
    """Serve a file to who has the workspace's token and files:read; the others get a login page.

    With status 200, as Slack does: whoever looks at the status alone stores the page as the file.
    """
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    team, file_id = request.match_info["team"], request.match_info["file"]
    slack.downloads.append((file_id, request.headers.get("Authorization")))
    slack.recorder.changed()
    if slack.download_troubles:
        status, headers = slack.download_troubles.pop(0)
        return web.Response(status=status, headers=headers)
    workspace = slack.workspaces.get(team)
    allowed = (
        workspace is not None
        and workspace.bot_token is not None
        and token == workspace.bot_token
        and "files:read" in workspace.scopes
    )
    if workspace is None or not allowed:
        return web.Response(text=LOGIN_PAGE, content_type="text/html")
    file = workspace.files.get(file_id)
    if file is None:
        return web.Response(status=404, text="File not found")
    is_canvas = file.extra.get("mode") == "quip"
    return web.Response(body=file.content, content_type="text/html" if is_canvas else file.mimetype)


def _mimetype(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
