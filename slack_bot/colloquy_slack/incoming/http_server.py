"""Serves Slack's events, and the pages of an installation, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse


class HttpServer:
    """Listens from `start` to `stop`."""

    def __init__(self, app: AsyncApp) -> None:
        routes = web.Application()
        routes.router.add_post("/slack/events", _handler(app.async_dispatch))
        flow = app.oauth_flow
        if flow is not None:
            routes.router.add_get(flow.install_path, _handler(flow.handle_installation))
            routes.router.add_get(flow.redirect_uri_path, _handler(flow.handle_callback))
        self._runner = web.AppRunner(routes, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Return the port that it listens on, which is another than `port` when that is 0.

        Raises OSError.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        actual_port: int = self._runner.addresses[0][1]
        return actual_port

    async def stop(self) -> None:
        """Finish what is being answered, and listen no more."""
        await self._runner.cleanup()


def _handler(
    handle: Callable[[AsyncBoltRequest], Awaitable[BoltResponse]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(request: web.Request) -> web.Response:
        return await to_aiohttp_response(await handle(await to_bolt_request(request)))

    return respond
