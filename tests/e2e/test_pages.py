"""The page's files over HTTP: what is served where, how long it is kept, and what it may do."""

from __future__ import annotations

import asyncio
import gzip
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.fleets import ANY
from tests.harness import Colloquy

pytestmark = ANY

SOMEWHERE = "/c/01900000-0000-7000-8000-000000000000"


class Visitor:
    """Asks for paths as they are, and takes answers as they come."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        url = URL(self._base + path, encoded=True)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(
            method,
            url,
            headers=named,
            allow_redirects=False,
            skip_auto_headers=["accept-encoding"],
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def assets(self) -> list[str]:
        """The files that the page loads first."""
        _, _, body = await self.ask("/")
        found = re.findall(r'(?:src|href)="(/assets/[^"]+)"', body.decode())
        assert found
        return found


@pytest.fixture
async def visitor(colloquy: Colloquy) -> AsyncIterator[Visitor]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Visitor(session, colloquy.app.web_url)


@pytest.mark.parametrize("path", ["/", SOMEWHERE, "/search?q=a", "/settings", "/signin"])
async def test_the_page_is_at_all_of_its_addresses(visitor: Visitor, path: str) -> None:
    status, headers, body = await visitor.ask(path)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == (await visitor.ask("/"))[2]
    assert headers["cache-control"] == "no-cache"


async def test_nothing_in_the_page_is_inline_or_of_elsewhere(visitor: Visitor) -> None:
    _, _, body = await visitor.ask("/")
    text = body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<base|https?://", text)
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL) == [""]


async def test_what_the_page_may_do(visitor: Visitor) -> None:
    for path in ("/", "/icon.svg", *await visitor.assets()):
        _, headers, _ = await visitor.ask(path)
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' blob: data:",
            "connect-src": "'self'",
            "font-src": "'self'",
            "worker-src": "'self'",
            "manifest-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
        }
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "set-cookie" not in headers


async def test_named_by_what_is_in_them_files_are_kept_for_good(visitor: Visitor) -> None:
    for path in await visitor.assets():
        status, headers, _ = await visitor.ask(path)
        assert status == 200
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("/icon.svg", "/manifest.webmanifest"):
        status, headers, _ = await visitor.ask(path)
        assert (status, headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    ("ending", "content_type"),
    [(".js", "text/javascript; charset=utf-8"), (".css", "text/css; charset=utf-8")],
)
async def test_types(visitor: Visitor, ending: str, content_type: str) -> None:
    paths = [path for path in await visitor.assets() if path.endswith(ending)]
    assert paths
    for path in paths:
        assert (await visitor.ask(path))[1]["content-type"] == content_type


async def test_types_of_icon_and_manifest(visitor: Visitor) -> None:
    _, headers, _ = await visitor.ask("/icon.svg")
    assert headers["content-type"] == "image/svg+xml"
    _, headers, _ = await visitor.ask("/manifest.webmanifest")
    assert headers["content-type"] == "application/manifest+json"


async def test_compressed_for_who_takes_that(visitor: Visitor) -> None:
    [script] = [path for path in await visitor.assets() if path.endswith(".js")][:1]
    _, plain, body = await visitor.ask(script, accept_encoding="identity")
    _, packed, compressed = await visitor.ask(script, accept_encoding="br;q=0, gzip;q=0.8")
    _, best, smallest = await visitor.ask(script, accept_encoding="gzip, deflate, br, zstd")
    _, refused, again = await visitor.ask(script, accept_encoding="gzip;q=0, br;q=0.0")
    assert "content-encoding" not in plain
    assert packed["content-encoding"] == "gzip"
    assert best["content-encoding"] == "br"
    assert "content-encoding" not in refused
    assert gzip.decompress(compressed) == await unbrotli(smallest) == body == again
    assert len(smallest) < len(compressed) < len(body)
    assert plain["vary"] == packed["vary"] == best["vary"] == "accept-encoding"
    assert (await visitor.ask(f"{script}.br"))[0] == 404


async def unbrotli(packed: bytes) -> bytes:
    """What a browser makes of it."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "node",
        "--eval",
        "process.stdout.write(zlib.brotliDecompressSync(fs.readFileSync(0)))",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    return (await process.communicate(packed))[0]


@pytest.mark.parametrize("path", ["/", "/icon.svg"])
async def test_what_a_browser_has_is_not_sent_again(visitor: Visitor, path: str) -> None:
    _, headers, _ = await visitor.ask(path)
    status, again, body = await visitor.ask(path, if_none_match=f'"other", {headers["etag"]}')
    assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert again["content-security-policy"] == headers["content-security-policy"]
    assert (await visitor.ask(path, if_none_match='"other"'))[0] == 200


@pytest.mark.parametrize("path", ["/", SOMEWHERE, "/icon.svg"])
async def test_heads_say_what_there_is(visitor: Visitor, path: str) -> None:
    _, headers, body = await visitor.ask(path)
    status, head, nothing = await visitor.ask(path, "HEAD")
    assert (status, nothing) == (200, b"")
    assert head["content-length"] == str(len(body)) == headers["content-length"]
    assert head["etag"] == headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/index.html",
        "/c/",
        "/c/a/b",
        "/settings/",
        "/assets/",
        "/assets/nothing.js",
        "/../app.py",
        "/..%2fapp.py",
        "/assets/..%2f..%2f..%2fapp.py",
        "/assets/%2e%2e/%2e%2e/pages.py",
        "/assets/..%5c..%5cpages.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/icon.svg%00.js",
        "/icon.svg/",
        "/static/icon.svg",
        "/api",
        "/api/v1/conversations",
        "/conversation.v1.NoSuchService/ListModels",
        "/session/nothing",
    ],
)
async def test_what_is_no_file_of_the_page_is_not_there(visitor: Visitor, path: str) -> None:
    status, headers, body = await visitor.ask(path)
    assert status == 404
    assert not headers["content-type"].startswith("text/html")
    assert b"<html" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_the_page_is_only_read(visitor: Visitor, method: str) -> None:
    for path in ("/", SOMEWHERE, "/icon.svg"):
        assert (await visitor.ask(path, method))[0] == 405
