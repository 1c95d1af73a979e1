"""Signing in and out with a browser, as plain routes.

    GET    /session/methods             which ways there are
    POST   /session                     {"api_key": …} or {"code": …} of a link: sets the cookie
    DELETE /session                     signs out
    GET    /signin/identity-provider    leads to the company's provider (?return_to=/path)
    GET    /signin/callback             comes back from there: sets the cookie

Nothing of what is shown here, a key, a code or a cookie, is logged or put into an address.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from colloquy_server.api.access import AccessControl
from colloquy_server.api.audit import AuditTrail
from colloquy_server.api.call_limiter import CallLimiter
from colloquy_server.api.identity_sign_in import (
    CALLBACK_PATH,
    LASTS_SECONDS,
    IdentitySignIn,
    NotBegunHere,
)
from colloquy_server.api.peers import caller_address, network_of
from colloquy_server.api.sign_in import BEGIN, IDENTITY_LIFETIME, Browser, SignedIn, SignIn
from colloquy_server.errors import (
    ColloquyError,
    InvalidField,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from colloquy_server.web.browsers import Browsers
from colloquy_server.web.errors import STATUSES
from colloquy_server.web.rpc import metadata_of, peer_of

log = structlog.get_logger()

_MAX_BODY = 16 << 10
"""Bytes; a key is less than 100."""

_BODY_TIMEOUT = 10.0

_AT_ONCE, _AT_ONCE_OF_ONE = 64, 8
"""How many sign-ins are served at once, in all and from one address."""

_HEADERS = {"cache-control": "no-store"}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Signing in did not work</title>
<h1>Signing in did not work</h1>
<p>{}</p>
<p><a href="/signin">Sign in again</a></p>
"""

Serve = Callable[[Request, str], Awaitable[Response]]
"""Serves a request that came from an address."""


class SignInRoutes:
    """The routes, and what they set."""

    def __init__(
        self,
        browsers: Browsers,
        sign_in: SignIn,
        provider: IdentitySignIn | None,
        access: AccessControl,
        trail: AuditTrail,
        *,
        lifetime: float,
        proxies: int,
    ) -> None:
        """`lifetime`, in seconds, is how long a session lasts at most; `proxies` is how many stand
        before the server, and say whom they were called by. Without `provider` nobody signs in
        there."""
        self._browsers = browsers
        self._sign_in = sign_in
        self._provider = provider
        self._access = access
        self._trail = trail
        self._lifetime = lifetime
        self._proxies = proxies
        self._limiter = CallLimiter(_AT_ONCE, _AT_ONCE_OF_ONE)

    def routes(self) -> list[Route]:
        """Where they are."""
        routes = [
            Route("/session/methods", self._methods),
            Route("/session", self._served(self._begin), methods=["POST"]),
            Route("/session", self._served(self._end), methods=["DELETE"]),
        ]
        if self._provider is not None:
            routes += [
                Route("/signin/identity-provider", self._served(self._leave, told_as=_page)),
                Route(CALLBACK_PATH, self._served(self._return, told_as=_page)),
            ]
        return routes

    def _served(
        self, serve: Serve, told_as: Callable[[ColloquyError], Response] | None = None
    ) -> Callable[[Request], Awaitable[Response]]:
        """The route of what serves a request, whose errors are told, and no more of them."""
        tell = told_as or _json

        async def route(request: Request) -> Response:
            address = caller_address(
                peer_of(request.scope), metadata_of(request.scope), self._proxies
            )
            try:
                return await serve(request, address)
            except ColloquyError as error:
                if isinstance(error, Unauthenticated | PermissionDenied):
                    self._trail.refused(None, BEGIN, address, error.reason)
                return tell(error)

        return route

    async def _methods(self, _request: Request) -> Response:
        methods = ["api_key", "link", *(["identity_provider"] if self._provider else [])]
        return JSONResponse({"methods": methods}, headers=_HEADERS)

    async def _begin(self, request: Request, address: str) -> Response:
        """Signs in with what the body holds. A page of somebody else could sign people in as
        itself: so it has to be ours, also without a cookie."""
        self._browsers.require_own_page(request.scope)
        # Nobody waits for a body that lets wait: only who has come whole takes a place.
        shown = await _body(request)
        browser = self._browser(request, address)
        with self._place(address):
            if len(shown) == 1 and "api_key" in shown:
                signed_in = await self._sign_in.by_key(shown["api_key"], browser)
            elif len(shown) == 1 and "code" in shown:
                signed_in = await self._sign_in.by_link(shown["code"], browser)
            else:
                raise InvalidField({"body": 'must be {"api_key": "…"} or {"code": "…"}'})
        return self._with_session(JSONResponse({}, headers=_HEADERS), signed_in, self._lifetime)

    async def _end(self, request: Request, address: str) -> Response:
        self._browsers.require_own_page(request.scope)
        if secret := self._browsers.shown_session(request.scope):
            with self._place(address):
                try:
                    known = await self._access.authenticate_session(secret, address)
                except Unauthenticated:  # it has ended already
                    pass
                else:
                    await self._sign_in.end(known.principal, address)
        response = Response(status_code=204, headers=_HEADERS)
        response.headers["set-cookie"] = self._browsers.session_cookie("", 0)
        return response

    async def _leave(self, request: Request, address: str) -> Response:
        assert self._provider is not None
        with self._place(address):
            where, kept = await self._provider.begin(request.query_params.get("return_to", "/"))
        response = RedirectResponse(where, 303, headers=_HEADERS)
        response.headers["set-cookie"] = self._browsers.state_cookie(kept, LASTS_SECONDS)
        return response

    async def _return(self, request: Request, address: str) -> Response:
        assert self._provider is not None
        kept = self._browsers.kept_state(request.scope)
        with self._place(address), self._attempt(address):
            account_id, user_id, role, path = await self._provider.finish(
                kept, request.query_params
            )
            browser = self._browser(request, address)
            signed_in = await self._sign_in.by_identity(account_id, user_id, role, browser)
        response = RedirectResponse(path, 303, headers=_HEADERS)
        response.headers.append("set-cookie", self._browsers.state_cookie("", 0))
        lasts = min(self._lifetime, IDENTITY_LIFETIME)
        return self._with_session(response, signed_in, lasts)

    def _place(self, address: str) -> AbstractContextManager[None]:
        """Around what is done for a caller from an address. Raises Overloaded."""
        return self._limiter.call(network_of(address))

    @contextmanager
    def _attempt(self, address: str) -> Iterator[None]:
        """What is a failure if it is refused. Raises TooManyFailures."""
        attempt = self._access.attempt(address)
        try:
            yield
        except (Unavailable, PermissionDenied, NotBegunHere):
            # Nobody can tell, or it was good; or nothing was tried: any page can have it asked for.
            attempt.refund()
            raise
        attempt.refund()

    def _browser(self, request: Request, address: str) -> Browser:
        agent = request.headers.get("user-agent", "")
        readable = "".join(letter for letter in agent if letter.isprintable())
        return Browser(address, readable, self._browsers.shown_session(request.scope))

    def _with_session(self, response: Response, signed_in: SignedIn, lasts: float) -> Response:
        cookie = self._browsers.session_cookie(signed_in.secret, lasts)
        response.headers.append("set-cookie", cookie)
        return response


async def _body(request: Request) -> dict[str, str]:
    """The fields of a body that is JSON, which no form of another page can send. Raises
    InvalidField."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidField({"content-type": "must be application/json"})
    body = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for part in request.stream():
                body += part
                if len(body) > _MAX_BODY:
                    raise InvalidField({"body": "is too long"})
        fields = orjson.loads(body)
    except (TimeoutError, ClientDisconnect):
        raise InvalidField({"body": "did not come"}) from None
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or not all(isinstance(v, str) for v in fields.values()):
        raise InvalidField({"body": "is no JSON object of texts"})
    return fields


def _json(error: ColloquyError) -> Response:
    """An error as Connect tells it."""
    code = error.status.lower()
    body = {"code": code, "message": error.message, "reason": error.reason}
    return JSONResponse(body, STATUSES[error.status], _headers_of(error))


def _page(error: ColloquyError) -> Response:
    """The same for who is between two pages."""
    text = _PAGE.format(html.escape(error.message))
    return HTMLResponse(text, STATUSES[error.status], _headers_of(error))


def _headers_of(error: ColloquyError) -> dict[str, str]:
    if isinstance(error, RateLimited | Overloaded) and error.retry_after:
        return {**_HEADERS, "retry-after": str(int(error.retry_after) + 1)}
    return _HEADERS
