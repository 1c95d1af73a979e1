"""Files that people share in Slack, as attachments of their message."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import aiohttp
import structlog
from colloquy import ColloquyError

from colloquy_slack.serving.backoff import Patience, passes
from colloquy_slack.slack_api import Refused
from colloquy_slack.workspaces.workspace import Tools, Workspace

log = structlog.get_logger()

MOST = 10
"""Attachments that the server takes with one message."""

LARGEST = 100 << 20
"""Bytes of a file that are downloaded at most: the server has its own, smaller limits."""

_TRIES = 4
_LONGEST_WAIT = 10.0
"""How often a download is tried, and the most seconds between two tries that Slack may ask for."""

_SILENCE = 30.0
"""Seconds without a byte after which a download is broken off. As a whole it may take longer."""

# Slack's file host is busy, or stumbles: that passes.
_PASSING = {408, 429, 500, 502, 503, 504}


class NotFetched(Exception):
    """A file could not be had; the message says why, for people."""


class _Stumbled(Exception):
    """Slack did not send a file this time; `wait` is how many seconds it asks for."""

    def __init__(self, status: int, wait: float) -> None:
        super().__init__(f"status {status}")
        self.wait = wait


@dataclass
class Fetched:
    """What became of the files: those that the server has, and what to tell of the others."""

    attachment_ids: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def fetch_files(
    tools: Tools, workspace: Workspace, files: Sequence[dict[str, Any]]
) -> Fetched:
    """Take files from Slack to the server. What cannot be taken is noted.

    Raises ColloquyError when the server's trouble is a passing one, and NotLetIn: all of it may be
    done again.
    """
    fetched = Fetched()
    for number, file in enumerate(files):
        name = str(file.get("name") or file.get("title") or "a file")
        if number >= MOST:
            fetched.notes.append(f"Left out: {name} (a message takes {MOST} files).")
            continue
        try:
            fetched.attachment_ids.append(await _fetch(tools, workspace, file))
        except NotFetched as problem:
            fetched.notes.append(f"I could not read {name}: {problem}")
    return fetched


async def _fetch(tools: Tools, workspace: Workspace, file: dict[str, Any]) -> str:
    if file.get("file_access") == "check_file_info" or not _url(file):
        # In Slack Connect an event tells a file's id only.
        file = await _info(workspace, str(file.get("id") or ""))
    if file.get("mode") == "tombstone" or not _url(file):
        raise NotFetched("it is not kept by Slack.")
    if int(file.get("size") or 0) > LARGEST:
        raise NotFetched("it is too large.")
    with tempfile.SpooledTemporaryFile(max_size=4 << 20) as target:
        await _download(tools, workspace, file, target)
        return await _upload(tools, workspace, file, target)


async def _upload(
    tools: Tools, workspace: Workspace, file: dict[str, Any], content: BinaryIO | Any
) -> str:
    patience = Patience()
    while True:
        content.seek(0)
        try:
            attachment = await workspace.colloquy.upload(
                content,
                filename=str(file.get("name") or "file")[:255],
                content_type=str(file.get("mimetype") or ""),
            )
        except ColloquyError as error:
            if passes(error):
                raise
            wait = patience.wait_after(error)
            if wait is None:
                raise NotFetched(error.message) from None
        else:
            return attachment.id
        await tools.sleep(wait)


async def _info(workspace: Workspace, file_id: str) -> dict[str, Any]:
    try:
        answer = await workspace.slack.read_patiently("files.info", file=file_id)
    except Refused:
        raise NotFetched("Slack does not let me see it.") from None
    file = answer.get("file")
    return file if isinstance(file, dict) else {}


def _url(file: dict[str, Any]) -> str:
    return str(file.get("url_private_download") or file.get("url_private") or "")


async def _download(
    tools: Tools, workspace: Workspace, file: dict[str, Any], target: BinaryIO | Any
) -> None:
    for number in range(1, _TRIES + 1):
        wait = float(number)
        try:
            await _download_once(workspace, file, target)
            return
        except _Stumbled as problem:
            log.info("file not downloaded", problem=str(problem))
            wait = max(wait, problem.wait)
        except (TimeoutError, aiohttp.ClientError) as error:
            log.info("file not downloaded", problem=type(error).__name__)
        target.seek(0)
        target.truncate()
        if wait > _LONGEST_WAIT or number == _TRIES:
            break
        await tools.sleep(wait)
    raise NotFetched("Slack did not send it.")


async def _download_once(workspace: Workspace, file: dict[str, Any], target: Any) -> None:
    client, url = workspace.slack.client, _url(file)
    assert client.session is not None
    if not _is_slacks(url, client.base_url):
        raise NotFetched("it is kept outside Slack.")
    headers = {"Authorization": f"Bearer {client.token}"}
    patience = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    async with client.session.get(
        url, headers=headers, allow_redirects=False, timeout=patience
    ) as response:
        if response.status in _PASSING:
            raise _Stumbled(response.status, _seconds(response.headers.get("Retry-After")))
        if response.status != 200:
            raise NotFetched(f"Slack answered {response.status}.")
        wanted = str(file.get("mimetype") or "")
        if response.content_type == "text/html" and wanted != "text/html":
            # Without the scope files:read Slack sends its login page, and says 200.
            raise NotFetched("Slack asks me to log in; the app needs the scope files:read.")
        size = 0
        async for chunk in response.content.iter_chunked(1 << 16):
            size += len(chunk)
            if size > LARGEST:
                raise NotFetched("it is too large.")
            target.write(chunk)
    if wanted == "text/html" and _is_login_page(target):
        raise NotFetched("Slack asks me to log in; the app needs the scope files:read.")


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def _is_slacks(url: str, api_url: str) -> bool:
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
