"""The floor of a reply: a bare grpc.aio stream that stores the prompt, asks the provider with the
whole history, sends the text as it comes, and stores the answer.

`python -m bench.floors.replies BASE_URL DATABASE_URL`
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import grpc
import orjson
import uvloop

from bench.floors import serving
from bench.floors.stores import History, Store, open_store

METHOD = "Send"

_HEADERS = {"Authorization": "Bearer bench", "Content-Type": "application/json"}


class _Floor:
    def __init__(self, base_url: str, store: Store) -> None:
        self._url = f"{base_url}/chat/completions"
        self._store = store
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def send(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """The request is a conversation's id, a space and the prompt. The first message is the
        reply's id, the last one the whole text, and what comes between its pieces."""
        conversation_id, prompt = request.decode().split(" ", 1)
        reply_id, history = await self._store.begin(conversation_id, prompt)
        await context.write(reply_id.encode())
        text, tokens = "", 0
        async with self._session.post(self._url, data=_body(history), headers=_HEADERS) as answer:
            rest = b""
            async for data in answer.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                piece = ""
                for event in events:
                    if event.startswith(b"data: {"):
                        chunk = orjson.loads(event[6:])
                        if chunk["choices"]:
                            piece += chunk["choices"][0]["delta"].get("content") or ""
                        else:
                            tokens = chunk["usage"]["completion_tokens"]
                if piece:
                    await context.write(piece.encode())
                    text += piece
        await self._store.finish(conversation_id, reply_id, text, tokens)
        await context.write(text.encode())


def _body(history: History) -> bytes:
    messages = [
        {"role": "user" if role == 1 else "assistant", "content": content}
        for role, content in history
    ]
    options = {"include_usage": True}
    return orjson.dumps(
        {"model": "bench", "messages": messages, "stream": True, "stream_options": options}
    )


async def _serve(base_url: str, database_url: str) -> None:
    floor = _Floor(base_url, await open_store(database_url))
    await serving.serve(streams={METHOD: floor.send})


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], sys.argv[2]))
