"""Those who come and go: each stays in a conversation for a while, finds all that was said there,
and in the end it is deleted."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from colloquy import AsyncAdminClient, AsyncConversationClient
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import conversation_service_pb2_grpc as api_grpc
from colloquy.api import resources_pb2 as resources
from colloquy.api.resources_pb2 import User
from colloquy.errors import DeadlineExceeded, NotFound, Unavailable

from tests.chaos.checks import JUDGED, Judge, read_asks
from tests.chaos.fleet import Fleet, Replica
from tests.chaos.talkers import Ledger, Talker, clients
from tests.chaos.watchers import Watcher
from tests.harness import ADMIN_KEY
from tests.http_channel import HttpChannel

T = TypeVar("T")

_STAY = (4.0, 8.0)
"""Seconds that somebody talks in a conversation."""

_FINISH = 90.0
"""Seconds for all of a conversation to finish, on a machine that has much to do."""

_LIVE = resources.Message.STATE_GENERATING


@dataclass
class Town:
    """All that people share: the fleet, its clients, what was found wrong."""

    fleet: Fleet
    seed: int
    clients: list[AsyncConversationClient]
    admin: AsyncAdminClient
    held: int
    """How many conversations are there: as many are deleted as are made."""
    kept: deque[Callable[[], Awaitable[None]]] = field(default_factory=deque)
    """How to delete each of them, the oldest first."""
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    http: dict[str, HttpChannel] = field(default_factory=dict)
    _serial: int = 0

    def next(self) -> int:
        """A number that nobody else has."""
        self._serial += 1
        return self._serial

    def browsers(self, replica: Replica) -> grpc.aio.Channel:
        """The way of browsers to a replica, as stubs take it."""
        address = replica.process.http_address
        if address not in self.http:
            self.http[address] = HttpChannel(f"http://{address}", "connect-json")
        channel: Any = self.http[address]
        return channel  # type: ignore[no-any-return]

    async def again(self, call: Callable[[], Awaitable[T]]) -> T:
        """Calls until a server answers that is not just being started again."""
        until = time.monotonic() + _FINISH
        while True:
            try:
                return await call()
            except (Unavailable, DeadlineExceeded):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)


@asynccontextmanager
async def town(fleet: Fleet, seed: int, held: int) -> AsyncIterator[Town]:
    """Opens the connections, and closes them."""
    async with (
        clients(fleet) as of_account,
        AsyncAdminClient(fleet.addresses[0], ADMIN_KEY) as admin,
    ):
        here = Town(fleet, seed, of_account, admin, held)
        try:
            yield here
        finally:
            for channel in here.http.values():
                await channel.close()


@dataclass
class Person:
    """Goes from one conversation to the next."""

    town: Town
    name: str
    rng: random.Random

    async def run(self, until: float) -> None:
        """Comes and goes until then, by the monotonic clock."""
        while time.monotonic() < until:
            stay = self.rng.choices((self._talk, self._talk_apart, self._bring_file), (50, 25, 25))
            await stay[0](until)
            while len(self.town.kept) > self.town.held:
                await self.town.kept.popleft()()

    # --- kinds of stay ------------------------------------------------------------------------

    async def _talk(self, until: float) -> None:
        """In a conversation of the whole account."""
        client = self.rng.choice(self.town.clients)
        made = await self.town.again(client.create_conversation)
        self.town.counts["conversations"] += 1
        await self._stay(made.id, self.town.clients, "", until)
        self.town.kept.append(lambda: self._delete(made.id))

    async def _talk_apart(self, until: float) -> None:
        """Two members between themselves; in the end one of them is deleted with all of it."""
        number = self.town.next()
        secrets, users = [], []
        for part in "ab":
            user = User(external_id=f"member-{number}{part}", display_name="Ann Other")
            key = await self.town.again(
                lambda user=user: self.town.admin.create_api_key(  # type: ignore[misc]
                    self.town.fleet.account_id,
                    user.external_id,
                    role=admin_api.ApiKey.ROLE_MEMBER,
                    user=user,
                )
            )
            secrets.append(key.secret)
            users.append(key.api_key)
        address = self.rng.choice(self.town.fleet.addresses)
        async with AsyncConversationClient(address, secrets[0], patience=_FINISH) as client:
            made = await self.town.again(
                lambda: client.create_conversation(
                    visibility=resources.Conversation.VISIBILITY_PARTICIPANTS
                )
            )
            await self.town.again(
                lambda: client.add_participants(
                    made.id, [User(external_id=f"member-{number}b", display_name="Ann Other")]
                )
            )
            self.town.counts["conversations between two"] += 1
            await self._stay(made.id, [client], secrets[1], until)

        async def leave() -> None:
            await self._delete(made.id)
            for key in users:
                await self._gone(lambda key=key: self.town.admin.delete_user(key.user.id))  # type: ignore[misc]
                self.town.counts["users deleted"] += 1

        self.town.kept.append(leave)

    async def _bring_file(self, _until: float) -> None:
        """Sends a file, which comes back as it was."""
        town = self.town
        client = self.rng.choice(town.clients)
        number = town.next()
        # Every third is one that others brought too, and is stored once.
        words = self.rng if number % 3 else random.Random(number % 9)
        data = " ".join(str(words.random()) for _ in range(words.randint(10, 3_000))).encode()
        conversation = await town.again(client.create_conversation)
        file = await town.again(lambda: client.upload(io.BytesIO(data), filename="numbers.txt"))
        reply = await town.again(
            lambda: client.ask(
                conversation.id,
                f"file {number}",
                attachment_ids=[file.id],
                request_id=f"file-{number}",
            )
        )
        if reply.state != resources.Message.STATE_COMPLETED or not reply.content:
            town.problems.append(f"the reply to file {number} is {reply}")
        got = io.BytesIO()
        await town.again(lambda: client.download(file.id, _emptied(got)))
        if got.getvalue() != data:
            town.problems.append(f"file {number} came back otherwise")
        town.counts["files there and back"] += 1
        town.counts["replies"] += 1
        if number % 2:  # its message goes first
            messages = [message async for message in client.messages(conversation.id)]
            await self._gone(lambda: client.delete_message(messages[0].id))
            town.counts["messages with files deleted"] += 1
        town.kept.append(lambda: self._delete(conversation.id))

    # --- a stay -------------------------------------------------------------------------------

    async def _stay(
        self, conversation_id: str, by: list[AsyncConversationClient], key: str, until: float
    ) -> None:
        """Talks, with others looking on, and judges what is stored then."""
        town = self.town
        ledger = Ledger()
        talker = Talker(conversation_id, f"c{town.next():05}", by, self.rng, ledger)
        watchers = [
            Watcher(
                town.fleet,
                conversation_id,
                f"watcher {number} of {talker.name}",
                random.Random(f"{town.seed}/{talker.name}/{number}"),
                town.counts,
                town.problems,
                is_patient=number == 1,
                key=key,
            )
            for number in range(2)
        ]
        if self.rng.random() < 0.5:
            watchers[0].channel_of = town.browsers
            town.counts["watchers by HTTP"] += 1
        watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
        slow = self._read_nothing(conversation_id, key)
        try:
            await talker.run(min(self.rng.uniform(*_STAY), max(1.0, until - time.monotonic())))
            await self._look_around(by[0], conversation_id)
            await self._finish(watchers)
        finally:
            slow.cancel()
            for task in watching:
                task.cancel()
            ends = await asyncio.gather(*watching, return_exceptions=True)
        town.problems += [
            f"a watcher failed: {end!r}" for end in ends if isinstance(end, Exception)
        ]
        await self._judge(conversation_id, ledger, watchers)

    def _read_nothing(self, conversation_id: str, key: str) -> grpc.aio.UnaryStreamCall[Any, Any]:
        """One who watches and takes nothing."""
        channel = self.rng.choice(self.town.fleet.replicas).channel
        assert channel is not None
        self.town.counts["slow readers"] += 1
        return api_grpc.ConversationServiceStub(channel).WatchConversation(
            api.WatchConversationRequest(conversation_id=conversation_id),
            metadata=(("authorization", f"Bearer {key or self.town.fleet.key}"),),
        )

    async def _look_around(self, client: AsyncConversationClient, conversation_id: str) -> None:
        """Searches and lists, as pages and terminals do."""

        async def look() -> None:
            async for _ in client.search("r1w1", conversation_id=conversation_id):
                break
            await client.list_conversations(page_size=20)
            await client.get_conversation(conversation_id)

        await self.town.again(look)
        self.town.counts["searches"] += 1

    async def _finish(self, watchers: list[Watcher]) -> None:
        """Waits until all has ended, and every watcher knows it."""
        until = time.monotonic() + _FINISH
        while True:
            lacking = ["no server answers"]
            try:
                stored = await self.town.fleet.history(watchers[0].conversation_id)
                lacking = [watcher.lacks(stored) for watcher in watchers if not watcher.is_broken]
                if not any(message.state <= _LIVE for message in stored) and not any(lacking):
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
            if time.monotonic() > until:
                self.town.problems += [f"{watchers[0].name}: {what}" for what in lacking if what]
                return
            await asyncio.sleep(0.2)

    async def _judge(self, conversation_id: str, ledger: Ledger, watchers: list[Watcher]) -> None:
        town = self.town
        rows = await town.fleet.query(
            f"SELECT {JUDGED} FROM messages WHERE conversation_id = '{conversation_id}'"
            " ORDER BY position"
        )
        asks = read_asks(town.fleet.asks_about(ledger.requests))
        judge = Judge(rows, asks, ledger, watchers, [])
        judge.judge()
        town.counts["messages judged"] += len(rows)
        town.counts["replies"] += sum(row["role"] == 2 for row in rows)
        town.counts.update(ledger.counts)
        town.counts.update(
            {what: count for what, count in judge.counts.items() if what.startswith("replies ")}
        )
        town.problems += ledger.problems + judge.problems

    # --- deleting -----------------------------------------------------------------------------

    async def _delete(self, conversation_id: str) -> None:
        client = self.rng.choice(self.town.clients)
        await self._gone(lambda: client.delete_conversation(conversation_id))
        self.town.counts["conversations deleted"] += 1
        try:
            await self.town.again(lambda: client.get_conversation(conversation_id))
        except NotFound:
            return
        self.town.problems.append(f"conversation {conversation_id} was deleted, and is there")

    async def _gone(self, delete: Callable[[], Awaitable[None]]) -> None:
        """Deletes; who tries again may find that it is gone."""
        try:
            await self.town.again(delete)
        except NotFound:
            self.town.counts["deleted before"] += 1


def _emptied(target: io.BytesIO) -> io.BytesIO:
    target.seek(0)
    target.truncate()
    return target
