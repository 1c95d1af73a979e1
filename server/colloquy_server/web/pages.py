"""The page for browsers: built files of `static/`, which are in memory from the start.

Whatever the page shows came from people and models. So its content security policy lets nothing run
or load but these files, and nothing be asked but this server.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
"""What `make web` builds."""

_PLACES = ("/", "/c/{conversation}", "/search", "/settings", "/signin")
"""The page's own addresses, which are all the same file: the page knows them (src/routing.ts)."""

_BROTLI = ".br"
"""How the name of a file ends that is another one by brotli."""

_HASHED = "/assets/"
"""Files below it have the hash of what is in them in their names: they never change."""

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "font-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)

_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "vary": "accept-encoding",
}

_TYPES = {".webmanifest": "application/manifest+json", ".js": "text/javascript"}
"""Those that Python's table lacks, or has otherwise on some systems."""

_TEXTS = ("text/", "image/svg", "application/manifest", "application/json")
"""How types begin that compression makes smaller."""


@dataclass(frozen=True)
class _File:
    """A file of the page."""

    path: str
    body: bytes
    content_type: str
    brotli: bytes = b""
    """The body by brotli, which the build made; empty when it did not."""

    @cached_property
    def gzip(self) -> bytes:
        """The body by gzip, empty when that is no use. Made once, when it is first asked for."""
        if not self.content_type.startswith(_TEXTS):
            return b""
        packed = gzip.compress(self.body, mtime=0)
        return packed if len(packed) < len(self.body) else b""

    @cached_property
    def tag(self) -> str:
        """What says whether a browser has it already: weak, as it is the same compressed or not."""
        return f'W/"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @property
    def caching(self) -> str:
        is_hashed = self.path.startswith(_HASHED)
        return "public, max-age=31536000, immutable" if is_hashed else "no-cache"


class Pages:
    """Serves the page, and nothing that is not a file of it."""

    def __init__(self, folder: Path = STATIC) -> None:
        """Reads the files below a folder. Raises KeyError when there is no page in it."""
        self._files = dict(_files_of(folder))
        self._index = self._files.pop("/index.html")

    def routes(self) -> list[Route]:
        """Where they are: each file by its name, and the page wherever it has an address."""
        places = [Route(path, self._page) for path in _PLACES]
        return places + [Route(path, self._file) for path in sorted(self._files)]

    async def _page(self, request: Request) -> Response:
        return await _answer(request, self._index)

    async def _file(self, request: Request) -> Response:
        return await _answer(request, self._files[request.scope["path"]])


@cache
def _files_of(folder: Path) -> Mapping[str, _File]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    bodies = {f"/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}
    return {
        name: _File(name, body, _type_of(name), bodies.get(name + _BROTLI, b""))
        for name, body in bodies.items()
        if not name.endswith(_BROTLI)
    }


async def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "cache-control": file.caching, "etag": file.tag}
    if file.tag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    body = file.body
    taken = _taken(request)
    if "br" in taken and file.brotli:
        body = file.brotli
        headers["content-encoding"] = "br"
    elif "gzip" in taken:
        # Compressing takes some milliseconds, the first time.
        packed = await asyncio.to_thread(lambda: file.gzip)
        if packed:
            body = packed
            headers["content-encoding"] = "gzip"
    return Response(body, headers={**headers, "content-type": file.content_type})


def _taken(request: Request) -> set[str]:
    """The compressions that a browser takes."""
    taken = set()
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = part.partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            taken.add(coding.strip())
    return taken


def _type_of(name: str) -> str:
    content_type = _TYPES.get(PurePosixPath(name).suffix) or mimetypes.guess_type(name)[0]
    if content_type is None:
        return "application/octet-stream"
    return f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type
