"""What is counted for quotas is what there is, after whatever was done, by whom and how often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.repository import attachments
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from sqlalchemy import text

from tests.e2e.test_quotas import Quotas, ask, counted, limited
from tests.harness import Caller, Colloquy
from tests.uploads import upload

ROUNDS = 12
AT_ONCE = 6
LIMITS = Quotas(conversations=8, file_bytes=4_000)
OF_KEYS = Quotas(conversations=4, file_bytes=2_000)

EXPECTED = {"RESOURCE_EXHAUSTED", "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED"}
"""How calls may be refused that run into others, or into a quota."""


class Crowd:
    """People with quotas of their own in one account, and what they do at random."""

    def __init__(self, colloquy: Colloquy, alice: Caller, seed: int) -> None:
        self.colloquy = colloquy
        self.alice = alice
        self.random = random.Random(seed)
        self.people: list[tuple[Caller, str]] = []
        self.conversations: list[str] = []
        self.prompts: list[str] = []
        self.files: list[str] = []

    async def join(self) -> None:
        """Somebody comes, with a key that has quotas."""
        made = await ask(
            self.colloquy,
            "CreateApiKey",
            admin_api.CreateApiKeyRequest(
                account_id=self.alice.account_id,
                name="k",
                role=admin_api.ApiKey.ROLE_ADMIN,
                user=resources.User(external_id=f"u{self.random.randrange(4)}"),
                quotas=OF_KEYS,
            ),
        )
        caller = Caller(self.colloquy.channel, made.secret, self.alice.account_id)
        self.people.append((caller, made.api_key.user.id))

    def somebody(self) -> Caller:
        callers = [self.alice, *(caller for caller, _ in self.people[-4:])]
        caller = self.random.choice(callers)
        channels = [self.colloquy.channel, self.colloquy.far or self.colloquy.channel]
        return caller.on(self.random.choice(channels))

    def one_of(self, known: list[str]) -> str:
        return self.random.choice(known) if known else "01890000-0000-7000-8000-000000000000"

    async def create(self) -> None:
        made = await self.somebody().create()
        self.conversations.append(made.id)

    async def upload(self) -> None:
        letter = self.random.choice("abcdef")  # the same bytes again and again, by anyone
        size = 100 * (1 + ord(letter) - ord("a")) + 300
        file = await upload(self.somebody(), letter.encode() * size, f"{letter}.txt")
        self.files.append(file.id)

    async def send(self) -> None:
        chosen = [self.one_of(self.files)] if self.files and self.random.random() < 0.7 else []
        stream = self.somebody().send(self.one_of(self.conversations), "See", attachment_ids=chosen)
        self.prompts.append((await stream.accepted()).message.id)
        if self.random.random() < 0.5:
            stream.cancel()
        else:
            await stream.rest()

    async def delete_conversation(self) -> None:
        request = api.DeleteConversationRequest(conversation_id=self.one_of(self.conversations))
        await self.somebody().call("DeleteConversation", request)

    async def delete_message(self) -> None:
        request = api.DeleteMessageRequest(message_id=self.one_of(self.prompts))
        await self.somebody().call("DeleteMessage", request)

    async def delete_user(self) -> None:
        if self.people:
            _, user_id = self.random.choice(self.people)
            await ask(self.colloquy, "DeleteUser", admin_api.DeleteUserRequest(user_id=user_id))

    async def sweep(self) -> None:
        await self.random.choice(self.colloquy.apps).files.sweep()

    async def step(self) -> None:
        """Something, which may be refused."""
        kinds: list[tuple[int, Any]] = [
            (6, self.create),
            (6, self.upload),
            (6, self.send),
            (4, self.delete_conversation),
            (4, self.delete_message),
            (1, self.delete_user),
            (2, self.join),
            (1, self.sweep),
        ]
        [do] = self.random.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        await may_be_refused(do())


async def may_be_refused(call: Awaitable[None]) -> None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code().name not in EXPECTED:
            raise


async def within(colloquy: Colloquy) -> None:
    """Checks that nobody holds more than they may, and that quotas are of who is there."""

    def read(s: Session) -> list[tuple[Any, ...]]:
        over = """
            SELECT * FROM quotas WHERE conversations > max_conversations
            OR file_bytes > max_file_bytes OR conversations < 0 OR file_bytes < 0
            OR (id NOT IN (SELECT id FROM accounts) AND id NOT IN (SELECT id FROM api_keys))
        """
        return [tuple(row) for row in s.execute(text(over))]

    assert await colloquy.app.db.read(EVERY_ACCOUNT, read) == []


@pytest.mark.parametrize("seed", range(2))
async def test_after_anything_what_is_counted_is_what_there_is(
    colloquy: Colloquy, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "UNUSED_KEPT", -1_000_000)
    alice = await limited(
        colloquy, conversations=LIMITS.conversations, file_bytes=LIMITS.file_bytes
    )
    crowd = Crowd(colloquy, alice, seed)
    await crowd.join()
    for _ in range(ROUNDS):
        await asyncio.gather(*(crowd.step() for _ in range(AT_ONCE)))
        await counted(colloquy)
        await within(colloquy)
    for _, user_id in crowd.people:
        request = admin_api.DeleteUserRequest(user_id=user_id)
        await may_be_refused(ask(colloquy, "DeleteUser", request))
    await counted(colloquy)
    await within(colloquy)
    whole = admin_api.DeleteAccountRequest(account_id=alice.account_id)
    await ask(colloquy, "DeleteAccount", whole)
    await within(colloquy)
