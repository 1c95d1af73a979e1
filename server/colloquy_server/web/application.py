"""All that is served over HTTP: the RPCs, and plain routes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from colloquy_server.errors import ColloquyError
from colloquy_server.telemetry import Telemetry
from colloquy_server.web.calls import answer
from colloquy_server.web.rpc import Rpc

log = structlog.get_logger()


_GUARDS = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""What all answers have, be they errors, that say nothing else of it: a browser runs nothing of
them, frames them nowhere, and lets no other page have them."""


class Application:
    """The ASGI application of one server process."""

    def __init__(self, rpc: Rpc, routes: Sequence[BaseRoute], telemetry: Telemetry) -> None:
        self._rpc = rpc
        self._router = Router(routes, redirect_slashes=False, default=_nothing_there)
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. What nobody thought of is logged, and the caller told no more."""
        has_started = False

        async def tell(message: Message) -> None:
            nonlocal has_started
            has_started = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": _guarded(message["headers"])}
            await send(message)

        serve = self._rpc if self._rpc.includes(scope["path"]) else self._router
        try:
            await serve(scope, receive, tell)
        except Exception as error:
            # A call that ends in the middle of its answer has said so in the log.
            if not (has_started and isinstance(error, ColloquyError)):
                log.error("request failed", path=scope["path"], exc_info=error)
                self._telemetry.unexpected(error)
            if has_started:
                raise  # the connection ends, so that nobody takes this for a whole answer
            await answer(tell, 500, "Something went wrong in the server.")


def _guarded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    said = list(headers)
    names = {name for name, _ in said}
    return said + [guard for guard in _GUARDS if guard[0] not in names]


async def _nothing_there(_scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(send, 404, "There is nothing here.")
