"""Takes the files that people share in Slack to the server, as attachments of their message."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import aiohttp
import structlog
from colloquy import ColloquyError

from colloquy_slack.message_text import name_of
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.backoff import Backoff, is_transient
from colloquy_slack.slack_api import Refused
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()

MAX_FILES = 10
"""Attachments that the server takes with one message."""

MAX_BYTES = 100 << 20
"""Bytes of a file that are downloaded at most: the server has its own, smaller limits."""

_TRIES = 4
_MAX_DELAY = 10.0
"""How often a download is tried, and the most seconds between two tries that Slack may ask for."""

_READ_TIMEOUT = 30.0
"""Seconds without a byte after which a download is broken off. As a whole it may take longer."""

_HTML = "text/html"
_CANVASES = {"canvas", "docs", "quip"}
_LISTS = {"list"}
"""What Slack calls its own documents, as a file's type or mode."""

_RECORDINGS = {"video/webm": "audio/webm", "video/ogg": "audio/ogg"}
"""Types of voice clips, by what Slack says; others are MP4 or QuickTime, which is the same."""

# Slack's file host is busy, or stumbles: that passes.
_TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}


class FileUnavailable(Exception):
    """A file could not be had; the message says why, for people."""


class _TransientFailure(Exception):
    """Slack did not send a file this time; `wait` is how many seconds it asks for."""

    def __init__(self, status: int, wait: float) -> None:
        super().__init__(f"status {status}")
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Transfer:
    """What became of a file."""

    file_id: str
    name: str
    attachment_id: str = ""
    """Empty: the server does not have it, and `trouble` says why, for people and models."""
    trouble: str = ""
    is_left_out: bool = False
    """Whether there was no room for it."""


async def transfer_files(
    runtime: Runtime, workspace: Workspace, files: Sequence[dict[str, Any]], room: int
) -> list[Transfer]:
    """Take files from Slack to the server, `room` of them at most.

    Raises ColloquyError when the server's trouble is transient, and TokenRejected: all of it may be
    done again.
    """
    transfers: list[Transfer] = []
    for file in files:
        file_id, name = str(file.get("id") or ""), name_of(file)
        if room <= 0:
            why = f"a message takes {MAX_FILES} files."
            transfers.append(Transfer(file_id, name, trouble=why, is_left_out=True))
            continue
        try:
            transfers.append(Transfer(file_id, name, await _transfer(runtime, workspace, file)))
            room -= 1
        except FileUnavailable as failure:
            transfers.append(Transfer(file_id, name, trouble=str(failure)))
    return transfers


async def _transfer(runtime: Runtime, workspace: Workspace, file: dict[str, Any]) -> str:
    if file.get("file_access") == "check_file_info" or not _url(file):
        # In Slack Connect an event tells a file's id only.
        file = await _info(workspace, str(file.get("id") or ""))
    if file.get("mode") == "hidden_by_limit":
        raise FileUnavailable("Slack hides it, since the workspace's plan keeps only newer ones.")
    if _kind(file) in _LISTS:
        raise FileUnavailable("it is a Slack list, which apps cannot read.")
    if file.get("mode") == "tombstone" or not _url(file):
        raise FileUnavailable("it is not kept by Slack.")
    if int(file.get("size") or 0) > MAX_BYTES:
        raise FileUnavailable("it is too large.")
    with tempfile.SpooledTemporaryFile(max_size=4 << 20) as target:
        await _download(runtime, workspace, file, target)
        return await _upload(runtime, workspace, file, target)


async def _upload(
    runtime: Runtime, workspace: Workspace, file: dict[str, Any], content: BinaryIO | Any
) -> str:
    backoff = Backoff()
    while True:
        content.seek(0)
        try:
            attachment = await workspace.colloquy.upload(
                content,
                filename=_filename(file)[:255],
                content_type=_content_type(file),
            )
        except ColloquyError as error:
            if is_transient(error):
                raise
            wait = backoff.next_delay(error)
            if wait is None:
                raise FileUnavailable(error.message) from None
        else:
            return attachment.id
        await runtime.sleep(wait)


async def _info(workspace: Workspace, file_id: str) -> dict[str, Any]:
    try:
        answer = await workspace.slack.read_with_retries("files.info", file=file_id)
    except Refused:
        raise FileUnavailable("Slack does not let me see it.") from None
    file = answer.get("file")
    return file if isinstance(file, dict) else {}


def _url(file: dict[str, Any]) -> str:
    return str(file.get("url_private_download") or file.get("url_private") or "")


def _kind(file: dict[str, Any]) -> str:
    return str(file.get("filetype") or file.get("mode") or "")


def _is_canvas(file: dict[str, Any]) -> bool:
    """Whether it is a document of Slack's own, which it sends as HTML, whatever type it names."""
    return bool({file.get("filetype"), file.get("mode")} & _CANVASES)


def _filename(file: dict[str, Any]) -> str:
    return f"{file.get('title') or name_of(file)}.html" if _is_canvas(file) else name_of(file)


def _content_type(file: dict[str, Any]) -> str:
    if _is_canvas(file):
        return _HTML
    kind = str(file.get("mimetype") or "")
    if file.get("subtype") == "slack_audio" and not kind.startswith("audio/"):
        # A voice clip is a recording in a film's container, of which Slack names only that.
        return _RECORDINGS.get(kind, "audio/mp4")
    return kind


async def _download(
    runtime: Runtime, workspace: Workspace, file: dict[str, Any], target: BinaryIO | Any
) -> None:
    for number in range(1, _TRIES + 1):
        wait = float(number)
        try:
            await _download_once(workspace, file, target)
            return
        except _TransientFailure as failure:
            log.info("file not downloaded", error=str(failure))
            wait = max(wait, failure.wait)
        except (TimeoutError, aiohttp.ClientError) as error:
            log.info("file not downloaded", error=type(error).__name__)
        target.seek(0)
        target.truncate()
        if wait > _MAX_DELAY or number == _TRIES:
            break
        await runtime.sleep(wait)
    raise FileUnavailable("Slack did not send it.")


async def _download_once(workspace: Workspace, file: dict[str, Any], target: Any) -> None:
    client, url = workspace.slack.client, _url(file)
    assert client.session is not None
    if not _may_get_token(url, client.base_url):
        raise FileUnavailable("it is kept outside Slack.")
    headers = {"Authorization": f"Bearer {client.token}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_READ_TIMEOUT, sock_read=_READ_TIMEOUT)
    async with client.session.get(
        url, headers=headers, allow_redirects=False, timeout=timeout
    ) as response:
        if response.status in _TRANSIENT_STATUSES:
            raise _TransientFailure(response.status, _seconds(response.headers.get("Retry-After")))
        if response.status != 200:
            raise FileUnavailable(f"Slack answered {response.status}.")
        wanted = _content_type(file)
        if response.content_type == _HTML and wanted != _HTML:
            # Without the scope files:read Slack sends its login page, and says 200.
            raise FileUnavailable("Slack asks me to log in; the app needs the scope files:read.")
        size = 0
        async for chunk in response.content.iter_chunked(1 << 16):
            size += len(chunk)
            if size > MAX_BYTES:
                raise FileUnavailable("it is too large.")
            target.write(chunk)
    if wanted == _HTML and _is_login_page(target):
        raise FileUnavailable("Slack asks me to log in; the app needs the scope files:read.")


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def _may_get_token(url: str, api_url: str) -> bool:
    """Whether the token may be shown there: Slack's own hosts, or the one that the API is on."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_slack = parts.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))
    return is_slack or parts.netloc == urlsplit(api_url).netloc


def _is_login_page(target: Any) -> bool:
    target.seek(0)
    head: bytes = target.read(64 << 10)
    target.seek(0, 2)
    return b'action="/signin"' in head or b"/signin?" in head or b'data-qa="login"' in head
