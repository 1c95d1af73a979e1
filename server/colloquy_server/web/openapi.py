"""The description of the API that generators of code and Swagger read, as `make protos` made it."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FILE = Path(__file__).with_name("openapi.json")


def openapi_route() -> Route:
    """Where it is: /openapi.json."""
    return Route("/openapi.json", _answer)


async def _answer(request: Request) -> Response:
    headers = {"vary": "accept-encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(_plain(), media_type="application/json", headers=headers)
    headers["content-encoding"] = "gzip"
    return Response(_compressed(), media_type="application/json", headers=headers)


@cache
def _plain() -> bytes:
    return _FILE.read_bytes()


@cache
def _compressed() -> bytes:
    return gzip.compress(_plain(), mtime=0)
