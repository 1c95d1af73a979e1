"""What is booked is what providers counted, to the token, whatever becomes of servers."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from colloquy.api import resources_pb2 as resources

from tests.books import (
    BY_USER,
    DAY,
    MONTH,
    TOKENS,
    USD,
    change,
    set_budget,
    settled,
    stored,
    usage_of,
)
from tests.fakes.provider import Answer, DoubleRequest
from tests.harness import Caller, Colloquy, ServerProcess, eventually
from tests.statuses import read

USERS = 10
EACH = 20
LIMITED = 3
"""Users who may have fewer replies in a day than they ask for."""

LIMIT = 12
ROUNDS = 2
"""Servers that are killed, each with a reply of every user in its hands."""

HALF = 3

pytestmark = pytest.mark.timeout(180)


@dataclass
class Sum:
    """What a user should be found to have used."""

    replies: int = 0
    told_input: int = 0
    told_output: int = 0
    estimated: int = 0
    estimated_output: int = 0


@pytest.fixture(params=["sqlite", "postgres"])
async def colloquy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Colloquy]:
    """The server in this process is the one that is left; the others are processes beside it. No
    lease ends by itself, however busy the machine is."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    async with Colloquy(tmp_path, url, lease_ttl=3_600) as running:
        running.provider.default = Answer(tokens=5)
        yield running


async def test_two_hundred_replies_of_ten_users_cost_what_the_provider_counted_over_kills(
    colloquy: Colloquy,
) -> None:
    alice = await colloquy.account("alice")
    users = [await _user(alice, number) for number in range(USERS)]
    for user in users[:LIMITED]:
        await set_budget(colloquy, alice, LIMIT, user_id=user.id)
    # One that is soon used up, as a reply is expected to have 500 tokens; and some that never are.
    await set_budget(colloquy, alice, 700, user_id=users[LIMITED].id, unit=TOKENS)
    await set_budget(colloquy, alice, 1_000, period=MONTH, unit=USD)
    await set_budget(colloquy, alice, 10_000_000, unit=TOKENS, period=DAY, model="test-model")
    asked: set[str] = set()
    for number in range(ROUNDS):
        asked |= await _killed(colloquy, alice, users, number)
    accepted, refused = await _sent(alice, users)
    asked |= accepted
    assert len(asked) + len(refused) == USERS * EACH

    by_prompt: dict[str, list[DoubleRequest]] = defaultdict(list)
    for request in colloquy.provider.reply_requests:
        by_prompt[request.last_user_text].append(request)
    assert by_prompt.keys() == asked  # each that was accepted, and none that was refused
    for user in users[:LIMITED]:
        assert sum(prompt.startswith(f"{user.external_id} ") for prompt in asked) == LIMIT
    assert any(prompt.startswith(f"{users[LIMITED].external_id} ") for prompt in refused)

    wanted = _bill(by_prompt)
    rows = {row.user.external_id: row for row in await usage_of(colloquy, alice, BY_USER)}
    assert rows.keys() == wanted.keys()
    for name, row in rows.items():
        user_sum = wanted[name]
        estimated_input = user_sum.estimated - user_sum.estimated_output
        assert row.replies == user_sum.replies
        assert row.estimated_tokens == user_sum.estimated
        assert row.input_tokens == user_sum.told_input + estimated_input
        assert row.output_tokens == user_sum.told_output + user_sum.estimated_output
        price = row.input_tokens * 0.001 + row.output_tokens * 0.002
        assert round(row.cost_usd * 1e9) == round(price * 1e6)
    assert sum(row.estimated_tokens > 0 for row in rows.values()) == USERS
    await settled(colloquy)


async def _user(alice: Caller, number: int) -> resources.User:
    """A user of the account, who makes a conversation."""
    author = resources.User(external_id=f"user{number}")
    return (await alice.create(title="Titled", author=author)).creator


async def _killed(
    colloquy: Colloquy, alice: Caller, users: list[resources.User], number: int
) -> set[str]:
    """Has a server killed that has a reply of every user in its hands: half of them in the middle
    of their text, the others before it. Another one goes on with them."""
    process = ServerProcess(colloquy, LEASE_TTL="3600", MAX_LIVE_REPLIES="1000")
    there = alice.on(await process.start())
    before = len(colloquy.provider.reply_requests)
    prompts, ids = set(), []
    for place, user in enumerate(users):
        words = HALF if place % 2 else 0
        colloquy.provider.script(Answer(tokens=5, gate_after=words, gate=asyncio.Event()))
        conversation = await alice.create(title="Titled")
        prompt = f"{user.external_id} is cut off in round {number}"
        stream = there.send(conversation.id, prompt, author=resources.User(id=user.id))
        ids.append((await stream.accepted()).reply.id)
        prompts.add(prompt)
        await colloquy.provider.wait_for_requests(before + place + 1)
        stream.cancel()
    cut = colloquy.provider.reply_requests[before:]
    texts = [" ".join(request.text.split()) for request in cut]
    assert {len(text.split()) for text in texts} <= {0, HALF}

    async def saved() -> int:
        found = await stored(colloquy, "SELECT id, content FROM messages WHERE state = 2")
        return sum(len(content.split()) for id_, content in found if id_ in ids)

    assert await eventually(saved, HALF * (USERS // 2)) == HALF * (USERS // 2)
    await process.end(signal.SIGKILL)
    await change(colloquy, "UPDATE messages SET lease_until = 1 WHERE state = 2")

    async def unfinished() -> int:
        return len(await stored(colloquy, "SELECT id FROM messages WHERE state < 3"))

    assert await eventually(unfinished, 0) == 0
    return prompts


async def _sent(alice: Caller, users: list[resources.User]) -> tuple[set[str], set[str]]:
    """Has all users say at once what is left to be said; the prompts that were accepted, and those
    that were refused."""
    accepted, refused = set(), set()

    async def say(user: resources.User, conversation: resources.Conversation, prompt: str) -> None:
        try:
            stream = alice.send(conversation.id, prompt, author=resources.User(id=user.id))
            reply = await stream.reply()
        except grpc.aio.AioRpcError as error:
            refusal = read(error)
            assert (refusal.reason, refusal.quota) == ("BUDGET_EXCEEDED", (f"user:{user.id}",))
            refused.add(prompt)
        else:
            assert reply.state == resources.Message.STATE_COMPLETED
            accepted.add(prompt)

    calls = []
    for user in users:
        talks = [await alice.create(title="Titled") for _ in range(3)]
        calls += [
            say(user, talks[number % len(talks)], f"{user.external_id} says {number}")
            for number in range(EACH - ROUNDS)
        ]
    await asyncio.gather(*calls)
    return accepted, refused


def _bill(by_prompt: dict[str, list[DoubleRequest]]) -> dict[str, Sum]:
    """What should be booked for each user, by the double's record: of each reply what its last
    request's answer told, and an estimate for each before it, which a kill cut off."""
    found: dict[str, Sum] = defaultdict(Sum)
    for prompt, requests in by_prompt.items():
        *cut, last = requests
        assert last.told is not None
        user = found[prompt.split()[0]]
        user.replies += 1
        user.told_input += last.told["prompt_tokens"]
        user.told_output += last.told["completion_tokens"]
        for request in cut:
            assert request.told is None
            written = len(request.text.encode()) // 4
            user.estimated += len(prompt.encode()) // 4 + 8 + written
            user.estimated_output += written
        assert len(cut) == ("cut off" in prompt)
    return found
