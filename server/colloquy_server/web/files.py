"""Files by plain HTTP, for those who cannot stream a call: browsers, curl.

    POST /files?filename=…    the bytes as they are, or in a form; answers the Attachment
    GET  /files               {"maxBytes": …}: how large a file may be
    GET  /files/{id}          the bytes, or a range of them; ?download to have them saved

They are the calls UploadAttachment and DownloadAttachment, surrounded by the same edge.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from colloquy.api import attachment_service_pb2 as api
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from colloquy_server.api.access import principal
from colloquy_server.api.attachments import AttachmentService
from colloquy_server.api.edge import Edge, EdgeCall
from colloquy_server.api.handlers import Handler, method_handlers
from colloquy_server.database.models import Attachment
from colloquy_server.errors import ColloquyError, InvalidField, Unavailable, Unimplemented
from colloquy_server.files.files import Files
from colloquy_server.files.storage import CHUNK
from colloquy_server.tracing import HEADER
from colloquy_server.web.browsers import Browsers, FromElsewhere
from colloquy_server.web.calls import header
from colloquy_server.web.errors import error_response
from colloquy_server.web.forms import first_file
from colloquy_server.web.rpc import metadata_of, peer_of

_UPLOAD = "/conversation.v1.AttachmentService/UploadAttachment"
_DOWNLOAD = "/conversation.v1.AttachmentService/DownloadAttachment"

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

_UNSAID = "application/x-www-form-urlencoded"
"""What curl says of bytes when nobody tells it what they are."""

_SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "audio/", "video/")
"""What a browser may show by itself. A picture in a page is shown whatever stands here; anything
else that people upload, a page or a drawing with scripts in it, is only saved."""

_RUN = re.compile(r"(?:text|application)/(?:x-)?(?:java|ecma|live|j)script.*|text/css")
"""What a page takes for its own script or style if it is led to load one from here."""

_SAFE = {
    "cache-control": "private, no-cache",
    "content-security-policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "vary": "authorization, cookie",
}
"""Nothing that people upload ever runs in the page's origin. Who may see a file may change, so it
is asked for each time, and not sent again when it is known."""


class CallerGone(ColloquyError):
    """The caller has gone away before all was said."""

    status = "CANCELLED"


class BrokenOff(ColloquyError):
    """The caller may not have the rest."""


class FileRoutes:
    """The routes of files."""

    def __init__(
        self,
        edge: Edge,
        files: Files,
        service: AttachmentService,
        browsers: Browsers,
        request_timeout: float,
    ) -> None:
        """`service` takes files in, and counts those that are open; `request_timeout`, in seconds,
        is how long the next bytes of a file may let wait."""
        self._edge = edge
        self._files = files
        self._browsers = browsers
        self._request_timeout = request_timeout
        self.is_draining = False
        """Whether new calls are sent elsewhere."""
        described = api.DESCRIPTOR.services_by_name["AttachmentService"]
        downloads = _Downloads(files, service)
        self._upload_handler = method_handlers(described, service)["UploadAttachment"]
        self._download_handler = method_handlers(described, downloads)["DownloadAttachment"]

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/files", self._upload, methods=["POST"]),
            Route("/files", self._limits, methods=["GET"]),
            Route("/files/{attachment_id}", self._download),
        ]

    async def _upload(self, request: Request) -> Response:
        call, refusal = self._call(_UPLOAD, self._upload_handler, request.scope)
        try:
            if refusal is not None:
                raise refusal
            await call.admit()
            uploaded = await call.run(_Parts(request, self._request_timeout), _NoAnswers())
        except (Exception, asyncio.CancelledError) as error:
            return _refused(call, error)
        finally:
            call.close()
        text = MessageToJson(uploaded.attachment, indent=None)
        headers = {"cache-control": "no-store", HEADER: call.request_id}
        return Response(text, 200, headers, "application/json")

    async def _limits(self, _request: Request) -> Response:
        return JSONResponse(
            {"maxBytes": self._files.max_bytes}, headers={"cache-control": "no-cache"}
        )

    async def _download(self, request: Request) -> Response:
        return _Download(self, request)

    async def serve_download(self, request: Request, answer: _Answer) -> Response | None:
        """Sends a file to a caller who may have it; returns what they are told instead."""
        call, refusal = self._call(_DOWNLOAD, self._download_handler, request.scope)
        try:
            if refusal is not None:
                raise refusal
            await call.admit()
            answer.request_id = call.request_id
            await call.run(_One(request.path_params["attachment_id"]), answer)
        except (Exception, asyncio.CancelledError) as error:
            return _refused(call, error)
        finally:
            call.close()
        return None

    def _call(
        self, method: str, handler: Handler, scope: Scope
    ) -> tuple[EdgeCall, ColloquyError | None]:
        """A call that has come, and what it is refused for before anybody asks who calls."""
        session = ""
        refusal: ColloquyError | None = None
        try:
            session = self._browsers.session_of(scope)
        except FromElsewhere as error:
            refusal = error
        if header(scope, b"content-encoding") not in ("", "identity"):
            refusal = Unimplemented("Files are taken as they are, without compression.")
        call = self._edge.call(method, handler, metadata_of(scope), peer_of(scope), "http", session)
        return call, Unavailable() if self.is_draining else refusal


class _Downloads:
    """Gives files out by HTTP."""

    def __init__(self, files: Files, service: AttachmentService) -> None:
        self._files = files
        self._service = service

    async def DownloadAttachment(
        self, request: api.DownloadAttachmentRequest, answer: _Answer
    ) -> None:
        scope = principal.get().scope
        file = await self._files.get(scope, request.attachment_id.lower())
        wanted = answer.wanted_of(file)
        if wanted is not None:
            _, pieces = await self._files.open(scope, file.id, wanted)
            with self._service.place():
                async for piece in pieces:
                    await answer.write(piece)
        await answer.end()


class _Parts:
    """A file that comes, as the parts of the call that takes it."""

    def __init__(self, request: Request, patience: float) -> None:
        self._request = request
        self._patience = patience

    async def one(self) -> Message:
        return await anext(self.each())

    async def each(self) -> AsyncIterator[api.UploadAttachmentRequest]:
        query = self._request.query_params
        kind = self._request.headers.get("content-type", "")
        name, chunks = query.get("filename", ""), self._chunks()
        form = kind.partition(";")[0].strip().lower()
        if form == _UNSAID:
            kind = ""
        elif form == "multipart/form-data":
            file = await first_file(kind, chunks)
            name, kind, chunks = name or file.filename, file.content_type, file.chunks()
        yield api.UploadAttachmentRequest(
            header=api.UploadAttachmentRequest.Header(
                filename=name, content_type=kind, sha256=query.get("sha256", "")
            )
        )
        async for chunk in chunks:
            yield api.UploadAttachmentRequest(chunk=chunk)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """The body, in pieces that are worth being written. Raises CallerGone and InvalidField."""
        waiting: list[bytes] = []
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    event = await self._request.receive()
            except TimeoutError:
                what = f"did not come within {self._patience:g} s"
                raise InvalidField({"request": what}) from None
            if event["type"] == "http.disconnect":
                raise CallerGone
            waiting.append(event.get("body", b""))
            size += len(waiting[-1])
            has_more = event.get("more_body", False)
            if size >= CHUNK or (size and not has_more):
                yield b"".join(waiting)
                waiting, size = [], 0
            if not has_more:
                return


class _One:
    """The request for a file."""

    def __init__(self, attachment_id: str) -> None:
        self._request = api.DownloadAttachmentRequest(attachment_id=attachment_id)

    async def one(self) -> Message:
        return self._request

    async def each(self) -> AsyncIterator[Message]:
        yield self._request


class _NoAnswers:
    """For a call that has one answer."""

    async def write(self, _message: object, /) -> None:
        raise AssertionError("one answer is returned")


class _Download(Response):
    """Sends a file, while its caller listens."""

    def __init__(self, routes: FileRoutes, request: Request) -> None:
        super().__init__()
        self._routes = routes
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the request."""
        answer = _Answer(self._request, send)
        # One task from beginning to end, as the telemetry of a call wants it.
        serving = asyncio.create_task(self._routes.serve_download(self._request, answer))
        leaving = asyncio.create_task(_has_left(receive))
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            serving.cancel()
            (told,) = await asyncio.gather(serving, return_exceptions=True)
        if isinstance(told, Response):
            if answer.has_started:
                raise BrokenOff  # the connection ends: nobody takes this for the whole
            await told(scope, receive, send)
        elif isinstance(told, Exception):
            raise told


class _Answer:
    """The answer to who asks for a file."""

    def __init__(self, request: Request, send: Send) -> None:
        self._request = request
        self._send = send
        self._status = 200
        self._headers: dict[str, str] = {}
        self._left = 0
        self.request_id = ""
        """What the call is followed by."""
        self.has_started = False
        self._has_ended = False

    def wanted_of(self, file: Attachment) -> tuple[int, int] | None:
        """Which of its bytes to send, if any; the answer says so."""
        size, tag = file.byte_size, f'"{file.sha256}"'
        self._headers = {
            **_SAFE,
            HEADER: self.request_id,
            "accept-ranges": "bytes",
            "content-disposition": _disposition(file, "download" in self._request.query_params),
            "content-length": str(size),
            "content-type": _type_of(file),
            "etag": tag,
        }
        asked = self._request.headers
        if tag in asked.get("if-none-match", "").replace("W/", "").split(", "):
            self._status = 304
            del self._headers["content-length"]
            return None
        wanted = (0, size)
        if asked.get("if-range", tag) == tag and (
            found := _RANGE.fullmatch(asked.get("range", ""))
        ):
            try:
                wanted = _range_of(found[1], found[2], size)
            except ValueError:
                self._status = 416
                self._headers |= {"content-range": f"bytes */{size}", "content-length": "0"}
                return None
            start, end = wanted
            self._status = 206
            self._headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
            self._headers["content-length"] = str(end - start)
        if self._request.method == "HEAD":
            return None
        self._left = wanted[1] - wanted[0]
        return wanted

    async def _start(self) -> None:
        self.has_started = True
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await self._send(
            {"type": "http.response.start", "status": self._status, "headers": headers}
        )

    async def write(self, piece: bytes, /) -> None:
        """Sends the next bytes. With the last ones the answer ends: its caller may ask for more by
        the same connection as soon as they have them."""
        if not self.has_started:
            await self._start()
        self._left -= len(piece)
        self._has_ended = self._left <= 0
        await self._send(
            {"type": "http.response.body", "body": piece, "more_body": not self._has_ended}
        )

    async def end(self) -> None:
        """Sends what there is without bytes."""
        if not self._has_ended:
            await self.write(b"")


def _range_of(first: str, last: str, size: int) -> tuple[int, int]:
    """The places that `first-last` of a Range header means. Raises ValueError when there are
    none."""
    if not first:
        wanted = (max(0, size - int(last)), size)
    else:
        wanted = (int(first), min(size, int(last) + 1) if last else size)
    if wanted[0] >= wanted[1]:
        raise ValueError
    return wanted


def _type_of(file: Attachment) -> str:
    kind = "text/plain" if _RUN.fullmatch(file.content_type) else file.content_type
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _disposition(file: Attachment, is_saved: bool) -> str:
    """By RFC 6266: the name in ASCII for who knows no other, and as it is."""
    way = "inline" if file.content_type.startswith(_SHOWN) and not is_saved else "attachment"
    plain = re.sub(r'[^ -~]|["\\%]', "_", file.filename)
    return f"{way}; filename=\"{plain}\"; filename*=UTF-8''{quote(file.filename, safe='')}"


def _refused(call: EdgeCall, error: BaseException) -> Response:
    """What the caller is told of an error. Raises it when they have gone away."""
    refusal = call.refuse(error)
    if refusal is None:
        raise error
    response = error_response(refusal)
    response.headers[HEADER] = call.request_id
    return response


async def _has_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
