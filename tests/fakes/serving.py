"""The fake Colloquy on a port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from colloquy.api import admin_service_pb2_grpc as admin_grpc
from colloquy.api import attachment_service_pb2_grpc as attachment_grpc
from colloquy.api import conversation_service_pb2_grpc as conversation_grpc
from grpc import aio

from tests.fakes.conversations import FakeConversations
from tests.fakes.files_and_accounts import FakeAccounts


class Serving:
    """A server that can go away and come back on its port."""

    def __init__(self, fake: FakeConversations, accounts: FakeAccounts | None = None) -> None:
        self.fake = fake
        self.accounts = accounts or FakeAccounts()
        self.port = 0
        self._server: aio.Server | None = None

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve, on the port of the last time if there was one."""
        self._server = aio.server()
        conversation_grpc.add_ConversationServiceServicer_to_server(self.fake, self._server)
        attachment_grpc.add_AttachmentServiceServicer_to_server(self.fake.files, self._server)
        admin_grpc.add_AdminServiceServicer_to_server(self.accounts, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Break all streams and go away."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


@asynccontextmanager
async def serving(fake: FakeConversations) -> AsyncIterator[Serving]:
    """Serve while the block runs."""
    server = Serving(fake)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class ThreadedServing:
    """The same in a thread of its own, for code that has no event loop or makes its own."""

    def __init__(self) -> None:
        self.fake = FakeConversations()
        self.accounts = FakeAccounts()
        self._loop = asyncio.new_event_loop()
        self._server = Serving(self.fake, self.accounts)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where it is."""
        return self._server.address

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._server.start)
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self._server.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def restart(self) -> None:
        """Go away and come back on the same port; for `run`."""
        await self._server.stop()
        await self._server.start()

    def run(self, what: Callable[[], Any]) -> Any:
        """Run an async function in the server's thread."""
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result()
