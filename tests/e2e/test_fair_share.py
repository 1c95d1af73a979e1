"""One account's many replies do not keep another's from being written."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.models import ApiKey
from colloquy_server.database.repository import access
from colloquy_server.database.transactions import Session

from tests.fakes.provider import Answer
from tests.fleets import ALONE
from tests.harness import Caller, Colloquy, Stream

COMPLETED = resources.Message.STATE_COMPLETED
QUEUED = resources.Message.STATE_QUEUED


def gated(colloquy: Colloquy, count: int) -> list[asyncio.Event]:
    """Answers that each wait for their own gate."""
    gates = [asyncio.Event() for _ in range(count)]
    colloquy.provider.script(*(Answer(tokens=2, gate_after=1, gate=gate) for gate in gates))
    return gates


async def send_each(caller: Caller, name: str, count: int) -> list[Stream]:
    """A message in each of so many conversations, one after the other."""
    streams = []
    for number in range(count):
        conversation = await caller.create(title=name)
        streams.append(caller.send(conversation.id, f"{name} {number}"))
        await streams[-1].accepted()
    return streams


@ALONE
async def test_accounts_take_turns_when_a_server_is_full(colloquy: Colloquy, alice: Caller) -> None:
    bob = await colloquy.account("bob")
    await colloquy.restart(max_live_replies=2)
    alice, bob = alice.at(colloquy), bob.at(colloquy)
    gates = gated(colloquy, 8)
    alices = await send_each(alice, "alice", 6)
    await colloquy.provider.wait_for_requests(2)
    bobs = await send_each(bob, "bob", 2)
    assert bobs[0].events[0].accepted.reply.state == QUEUED
    for number, gate in enumerate(gates):
        await colloquy.provider.wait_for_requests(min(number + 2, 8))
        gate.set()
    for stream in (*alices, *bobs):
        assert (await stream.reply()).state == COMPLETED
    order = [request.last_user_text for request in colloquy.provider.reply_requests]
    assert order[2] == "bob 0", "the next place is for who has none"
    assert order.index("bob 1") <= 4
    assert [said for said in order if "alice" in said] == [f"alice {n}" for n in range(6)]
    assert [said for said in order if "bob" in said] == ["bob 0", "bob 1"]


@ALONE
async def test_an_account_has_a_limit_of_its_own(colloquy: Colloquy, alice: Caller) -> None:
    bob = await colloquy.account("bob")
    await colloquy.restart(max_live_replies_per_account=1)
    alice, bob = alice.at(colloquy), bob.at(colloquy)
    gates = gated(colloquy, 4)
    alices = await send_each(alice, "alice", 3)
    await colloquy.provider.wait_for_requests(1)
    bobs = await send_each(bob, "bob", 1)
    requests = await colloquy.provider.wait_for_requests(2)
    assert [request.last_user_text for request in requests] == ["alice 0", "bob 0"]
    gates[1].set()
    assert (await bobs[0].reply()).state == COMPLETED
    for gate in gates:
        gate.set()
    for stream in alices:
        assert (await stream.reply()).state == COMPLETED


@ALONE
async def test_a_second_server_takes_what_the_first_has_no_room_for(
    colloquy: Colloquy, alice: Caller
) -> None:
    """Or the same one, when it has room again: nothing that waits is forgotten."""
    await colloquy.restart(max_live_replies=1)
    alice = alice.at(colloquy)
    streams = await send_each(alice, "alice", 5)
    for stream in streams:
        assert (await stream.reply()).state == COMPLETED


@ALONE
async def test_a_key_with_many_calls_at_once_is_looked_up_once(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a burst of one key's calls stands in line before all that others want to read."""
    looked_up: list[str] = []
    look_up = access.keys_by_hash

    def count(s: Session, hashes: Collection[str]) -> tuple[dict[str, ApiKey], int]:
        looked_up.extend(hashes)
        return look_up(s, hashes)

    monkeypatch.setattr(access, "keys_by_hash", count)
    await colloquy.restart()
    alice = alice.at(colloquy)
    await asyncio.gather(*(alice.call("ListModels", api.ListModelsRequest()) for _ in range(50)))
    assert len(looked_up) == 1
