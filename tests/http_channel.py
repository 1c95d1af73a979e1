"""The API by HTTP, as a channel that gRPC's stubs take: what is tested over gRPC can be tested over
Connect (JSON and proto) and gRPC-Web as it stands.

channel = HttpChannel("http://127.0.0.1:8080", "connect-json")
stub = ConversationServiceStub(channel)
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self
from urllib.parse import unquote

import aiohttp
import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

Trailers = Iterable[tuple[str, str]]

PROTOCOLS = ("connect-json", "connect-proto", "grpc-web")

_END_OF_CONNECT, _END_OF_GRPC_WEB = 0x02, 0x80


class HttpChannel:
    """Where calls go, and by which of PROTOCOLS."""

    def __init__(self, base_url: str, protocol: str) -> None:
        self.protocol = protocol
        self.called: set[str] = set()
        """The paths of all calls."""
        self._base_url = base_url
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections, as many as there are calls at once."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self._base_url,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def close(self, _grace: float | None = None) -> None:
        if self._session is not None:
            await self._session.close()

    def unary_unary(self, path: str, **codec: Any) -> Callable[..., Call]:
        return self._method(path, codec, streams=False)

    def unary_stream(self, path: str, **codec: Any) -> Callable[..., Call]:
        return self._method(path, codec, streams=True)

    def stream_unary(self, path: str, **codec: Any) -> Callable[..., Call]:
        return self._method(path, codec, streams=True)

    def _method(self, path: str, codec: dict[str, Any], *, streams: bool) -> Callable[..., Call]:
        output: type[Message] = codec["response_deserializer"].__self__

        def call(request: Any, *, metadata: Trailers = (), timeout: float | None = None) -> Call:
            self.called.add(path)
            return Call(self, path, output, request, dict(metadata), timeout, streams=streams)

        return call


class Call:
    """A call that was begun: awaited, or read message by message."""

    def __init__(
        self,
        channel: HttpChannel,
        path: str,
        output: type[Message],
        request: Any,
        headers: dict[str, str],
        timeout: float | None,
        *,
        streams: bool,
    ) -> None:
        self._channel = channel
        self._output = output
        self._is_json = channel.protocol.endswith("json")
        self._is_web = channel.protocol == "grpc-web"
        self._is_framed = streams or self._is_web
        if timeout is not None:
            milliseconds = round(timeout * 1_000)
            name = "grpc-timeout" if self._is_web else "connect-timeout-ms"
            headers[name] = f"{milliseconds}m" if self._is_web else str(milliseconds)
        codec = "json" if self._is_json else "proto"
        kind = f"grpc-web+{codec}" if self._is_web else f"connect+{codec}" if streams else codec
        headers["content-type"] = f"application/{kind}"
        # Calls go out when they are made, and not when somebody waits for them.
        self._came: asyncio.Queue[Any] = asyncio.Queue()
        self._end: Any = None
        self._task = asyncio.create_task(self._receive(path, request, headers))

    async def _receive(self, path: str, request: Any, headers: dict[str, str]) -> None:
        try:
            async for message in self._exchange(path, request, headers):
                self._came.put_nowait(message)
        except (Exception, asyncio.CancelledError) as error:
            self._came.put_nowait(error)
        else:
            self._came.put_nowait(grpc.aio.EOF)

    async def read(self) -> Any:
        """The next message; EOF after the last. Raises what the call ended with."""
        came = await self._came.get() if self._end is None else self._end
        if came is grpc.aio.EOF or isinstance(came, BaseException):
            self._end = came
        if isinstance(came, BaseException):
            raise came
        return came

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> Message:
        answers = [message async for message in self]
        (answer,) = answers
        return answer  # type: ignore[no-any-return]

    async def code(self) -> grpc.StatusCode:
        """What the call, which was read to its end, ended with."""
        return self._end.code() if isinstance(self._end, AioRpcError) else grpc.StatusCode.OK

    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    def cancel(self) -> None:
        """Goes away."""
        self._task.cancel()

    async def _exchange(
        self, path: str, request: Any, headers: dict[str, str]
    ) -> AsyncIterator[Message]:
        body = self._body(request)
        async with self._channel.session.post(path, data=body, headers=headers) as response:
            if not self._is_framed:
                data = await response.read()
                if response.status != 200:
                    raise _of_connect(json.loads(data))
                yield self._decode(data)
                return
            assert response.status == 200, (response.status, await response.text())
            while True:
                prefix = await response.content.readexactly(5)
                flags, length = struct.unpack(">BI", prefix)
                data = await response.content.readexactly(length)
                if flags == 0:
                    yield self._decode(data)
                    continue
                assert flags == (_END_OF_GRPC_WEB if self._is_web else _END_OF_CONNECT)
                assert not await response.content.read()
                error = _of_grpc_web(data) if self._is_web else _of_end(json.loads(data))
                if error is not None:
                    raise error
                return

    def _body(self, request: Any) -> Any:
        if not isinstance(request, Message):
            return self._frames(request)
        data = self._encode(request)
        return _frame(data) if self._is_framed else data

    async def _frames(self, requests: AsyncIterator[Message]) -> AsyncIterator[bytes]:
        async for request in requests:
            yield _frame(self._encode(request))

    def _encode(self, message: Message) -> bytes:
        if self._is_json:
            return json_format.MessageToJson(message, indent=None).encode()
        return message.SerializeToString()

    def _decode(self, data: bytes) -> Message:
        if self._is_json:
            return json_format.Parse(data, self._output())
        return self._output.FromString(data)


def _frame(data: bytes) -> bytes:
    return struct.pack(">BI", 0, len(data)) + data


def _of_end(end: dict[str, Any]) -> AioRpcError | None:
    return _of_connect(end["error"]) if "error" in end else None


def _of_connect(error: dict[str, Any]) -> AioRpcError:
    name = {"canceled": "CANCELLED"}.get(error["code"], error["code"].upper())
    status = status_pb2.Status(code=code_pb2.Code.Value(name), message=error["message"])
    for detail in error.get("details", ()):
        status.details.add(
            type_url=f"type.googleapis.com/{detail['type']}",
            value=base64.b64decode(detail["value"] + "==="),
        )
    return _error(status)


def _of_grpc_web(trailers: bytes) -> AioRpcError | None:
    fields = dict(line.split(": ", 1) for line in trailers.decode().splitlines())
    if fields["grpc-status"] == "0":
        return None
    status = status_pb2.Status(
        code=int(fields["grpc-status"]), message=unquote(fields["grpc-message"])
    )
    if (details := fields.get("grpc-status-details-bin")) is not None:
        whole = status_pb2.Status.FromString(base64.b64decode(details + "==="))
        assert (whole.code, whole.message) == (status.code, status.message)
        status = whole
    return _error(status)


def _error(status: status_pb2.Status) -> AioRpcError:
    (code,) = (each for each in grpc.StatusCode if each.value[0] == status.code)
    trailing = Metadata()
    if status.details:
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return AioRpcError(code, Metadata(), trailing, details=status.message)
