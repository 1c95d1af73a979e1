"""Doubles of providers that are particular: they answer the requests that they want, and no other;
and doubles of servers that say which models they have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.provider import ProviderDouble

MESSAGE_FIELDS = frozenset({"role", "content"})


@dataclass(frozen=True)
class Demands:
    """What a request has to be like."""

    path: str = "/v1/chat/completions"
    query: Mapping[str, str] = field(default_factory=dict)
    """All of it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    no_headers: frozenset[str] = frozenset()
    fields: frozenset[str] | None = None
    """The only fields that the body may have."""
    no_fields: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    message_fields: frozenset[str] | None = None
    """The only fields that a message may have."""


AZURE = Demands(
    path="/openai/deployments/our-gpt/chat/completions",
    query={"api-version": "2024-10-21"},
    headers={"api-key": "the-azure-key"},
    no_headers=frozenset({"Authorization"}),
)
"""A deployment at Azure OpenAI: 404 without the right api-version, 401 with a bearer token."""

MISTRAL = Demands(
    fields=frozenset({"model", "messages", "stream", "max_tokens", "temperature", "top_p"}),
    message_fields=MESSAGE_FIELDS,
)
"""Mistral's API: 422 `extra_forbidden` for whatever else, `stream_options` and `name` among it."""

THINKING = Demands(
    needed=frozenset({"max_completion_tokens"}),
    no_fields=frozenset({"max_tokens", "temperature", "top_p"}),
)
"""OpenAI's models that think: 400 `unsupported_parameter`."""


class PickyProvider(ProviderDouble):
    """Answers a request that is as `demands` has it, and refuses any other as the real one does."""

    def __init__(self, demands: Demands, **options: Any) -> None:
        super().__init__(**options)
        self.demands = demands
        self.refused: list[str] = []
        """Why requests were refused."""

    def _route(self, router: web.UrlDispatcher) -> None:
        router.add_post("/{path:.*}", self._check)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        status, why = self._fault(request, await request.read())
        if not why:
            return await self._handle(request)
        self.refused.append(why)
        error = {"message": "secret", "type": "invalid_request_error", "code": None}
        return web.json_response({"error": error}, status=status)

    def _fault(self, request: web.Request, body: bytes) -> tuple[int, str]:
        demands = self.demands
        if request.raw_path.partition("?")[0] != demands.path:
            return 404, f"path {request.raw_path}"
        if dict(request.query) != dict(demands.query):
            return 404, f"query {request.query_string}"
        wrong = [k for k, v in demands.headers.items() if request.headers.get(k) != v]
        wrong += [name for name in demands.no_headers if name in request.headers]
        if wrong:
            return 401, f"headers {wrong}"
        said = json.loads(body)
        extra = set(said) & demands.no_fields
        if demands.fields is not None:
            extra |= set(said) - demands.fields
        if demands.message_fields is not None:
            extra |= {name for m in said["messages"] for name in set(m) - demands.message_fields}
        if extra or not demands.needed <= set(said):
            return 422, f"fields {sorted(extra)} of {sorted(said)}"
        return 200, ""


class ModelServer(ProviderDouble):
    """Says which models it has: `pages` are what its addresses answer in JSON, or functions of the
    request's body that say it. An address that is not there is 404."""

    def __init__(self, pages: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.pages: dict[str, Any] = dict(pages or {})
        self.asked: list[str] = []
        """The addresses that were asked for."""
        self.hold: asyncio.Event | None = None
        """Nothing is answered before it is set."""
        self.was_asked = asyncio.Event()

    def _route(self, router: web.UrlDispatcher) -> None:
        super()._route(router)
        router.add_route("*", "/{path:.*}", self._page)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.was_asked.set()
        if self.hold is not None:
            await self.hold.wait()
        page = self.pages.get(request.path)
        if callable(page):
            page = page(await request.json())
        if page is None:
            return web.json_response({"error": "not found"}, status=404)
        return web.json_response(page)


def listed(*ids: str, **fields: Any) -> dict[str, Any]:
    """What `GET /v1/models` answers."""
    return {"object": "list", "data": [{"id": each, "object": "model", **fields} for each in ids]}
