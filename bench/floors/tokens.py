"""The floor: a bare grpc.aio stream over a bare aiohttp request. It keeps nothing, checks nothing,
and sends the text as it is, without a message around it.

Like the server it sends the first text at once, then collects: a window opens with a token that
comes when none is open, and is common to all streams. So it sends as many messages as the server
does, but without a timer or a second task: text waits for the first token after the window.

`python -m bench.floors.tokens BASE_URL`
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import grpc
import orjson
import uvloop

from bench.floors import serving

METHOD = "Stream"

# As in server.publishing: the server widens its window with the replies that are being written.
_WINDOW = 0.025
_WINDOW_PER_REPLY = 0.00025
_WINDOW_MAX = 0.1


class _Floor:
    def __init__(self, base_url: str) -> None:
        self._url = f"{base_url}/chat/completions"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._live = 0
        self._window = 0
        self._window_ends = 0.0

    async def stream(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """One stream: the request is the prompt, each message a piece of the answer's text."""
        loop = asyncio.get_running_loop()
        messages = [{"role": "user", "content": request.decode()}]
        body = {"model": "bench", "messages": messages, "stream": True}
        self._live += 1
        try:
            async with self._session.post(self._url, json=body) as response:
                rest, text, seen = b"", "", -1
                async for data in response.content.iter_any():
                    *events, rest = (rest + data).split(b"\n\n")
                    for event in events:
                        if event.startswith(b"data: {"):
                            choices = orjson.loads(event[6:])["choices"]
                            text += (choices[0]["delta"].get("content") or "") if choices else ""
                    now = loop.time()
                    if now >= self._window_ends:
                        window = min(_WINDOW + _WINDOW_PER_REPLY * self._live, _WINDOW_MAX)
                        self._window_ends = now + window
                        self._window += 1
                    if text and seen != self._window:
                        await context.write(text.encode())
                        text, seen = "", self._window
                if text:
                    await context.write(text.encode())
        finally:
            self._live -= 1


async def _serve(base_url: str) -> None:
    await serving.serve(streams={METHOD: _Floor(base_url).stream})


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
