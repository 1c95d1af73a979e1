"""The floor of a streamed reply: a bare grpc.aio stream over a bare aiohttp request. It stores the
prompt before it asks and the answer at its end, keeps nothing in between, checks nothing, and sends
the text as it is, without a message around it.

Like the server it sends the first text at once, then collects: a window opens with a token that
comes when none is open, and is common to all streams. So it sends as many messages as the server
does, but without a timer or a second task: text waits for the first token after the window.

`python -m bench.floors.tokens BASE_URL DATABASE_URL`
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import uuid4

import aiohttp
import grpc
import orjson
import uvloop

from bench.floors import serving
from bench.floors.stores import Store, open_store

METHOD = "Stream"

# As in server.publishing: the server widens its window with the replies that are being written.
_WINDOW = 0.025
_WINDOW_PER_REPLY = 0.00025
_WINDOW_MAX = 0.1


class _Floor:
    def __init__(self, base_url: str, store: Store) -> None:
        self._url = f"{base_url}/chat/completions"
        self._store = store
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._live = 0
        self._window = 0
        self._window_ends = 0.0

    async def stream(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """One stream: the request is the prompt, each message a piece of the answer's text."""
        loop = asyncio.get_running_loop()
        conversation_id, prompt = str(uuid4()), request.decode()
        reply_id, _ = await self._store.begin(conversation_id, prompt)
        messages = [{"role": "user", "content": prompt}]
        body = {"model": "bench", "messages": messages, "stream": True}
        answer: list[str] = []
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
                        answer.append(text)
                        await context.write(text.encode())
                        text, seen = "", self._window
                if text:
                    answer.append(text)
                    await context.write(text.encode())
        finally:
            self._live -= 1
        await self._store.finish(conversation_id, reply_id, "".join(answer), len(answer))


async def _serve(base_url: str, database_url: str) -> None:
    floor = _Floor(base_url, await open_store(database_url))
    await serving.serve(streams={METHOD: floor.stream})


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], sys.argv[2]))
