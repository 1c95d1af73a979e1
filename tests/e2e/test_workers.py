"""Several workers on one port: each is a replica, and one process keeps them running."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from tests.e2e.talk import HALF, hold, text_of
from tests.harness import ADMIN_KEY, Caller, Colloquy, ServerProcess
from tests.metrics import scraped
from tests.statuses import refused

COMPLETED = resources.Message.STATE_COMPLETED

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
async def fleet(tmp_path: Path, postgres_url: str) -> AsyncIterator[Colloquy]:
    """A database and a provider; no server but those that the test starts."""
    async with Colloquy(tmp_path, postgres_url) as running:
        yield running


class Workers(ServerProcess):
    """A server with two workers, and callers that each reach one of them."""

    pids: dict[int, int]
    callers: dict[int, Caller]

    @classmethod
    async def serving(cls, fleet: Colloquy, **environment: str) -> Workers:
        """Starts them; the fleet's own server stops, so that nobody else takes replies over."""
        alice = await fleet.account("alice")
        await fleet.stop()
        workers = cls(fleet, workers=2, run=None, **environment)
        await workers.start()
        workers.pids = {e["worker"]: e["pid"] for e in await workers.logged("worker serving", 2)}
        workers.callers = {}
        calls = 0
        while len(workers.callers) < 2:  # the kernel gives a connection to whom it likes
            # Channels to one address would share a connection.
            own = ("grpc.use_local_subchannel_pool", 1)
            caller = alice.on(fleet.channel_to(workers.address, own))
            await caller.call("ListModels", api.ListModelsRequest())
            calls += 1
            logged = await workers.logged("call", calls)
            workers.callers.setdefault(logged[-1]["worker"], caller)
        return workers


async def test_a_conversation_goes_on_across_workers(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, PROMETHEUS_ADDRESS="127.0.0.1:0")
    assert workers.pids.keys() == workers.callers.keys() == {1, 2}
    assert len({workers.pid, *workers.pids.values()}) == 3
    first, second = workers.callers.values()
    conversation = await first.create(title="Shared")
    held = await hold(fleet, first, conversation.id)
    watch = second.watch(conversation.id)
    await text_of(watch, held.id, HALF)
    held.gate.set()
    reply = await held.stream.reply()
    assert (reply.state, reply.attempt) == (COMPLETED, 1)
    assert await watch.final(held.id) == reply
    watch.cancel()
    await second.cancel((await hold(fleet, first, conversation.id)).id)
    # Each tells of itself alone.
    pages = [await scraped(e["port"]) for e in await workers.logged("metrics served", 2)]
    completed = {"colloquy_reply_state": "completed"}
    assert sorted(p.sum("colloquy_reply_ended_total", **completed) for p in pages) == [0, 1]
    assert await workers.end(signal.SIGTERM) == 0


async def test_a_key_that_is_revoked_is_cut_off_by_all_workers(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, KEY_CHECK_INTERVAL="0.2")
    first, second = workers.callers.values()
    conversation = await first.create(title="Watched")
    watches = [caller.watch(conversation.id) for caller in (first, second)]
    for watch in watches:
        await watch.until("conversation")
    admin = Caller(first.channel, ADMIN_KEY)
    listed = await admin.admin.ListApiKeys(
        admin_api.ListApiKeysRequest(account_id=first.account_id), metadata=admin.metadata
    )
    await admin.admin.RevokeApiKey(
        admin_api.RevokeApiKeyRequest(api_key_id=listed.api_keys[0].id), metadata=admin.metadata
    )
    for watch, caller in zip(watches, (first, second), strict=True):
        assert (await refused(watch)).status == "UNAUTHENTICATED"
        # A worker that has ended the key's streams takes no call with it either.
        assert (await refused(caller.create())).status == "UNAUTHENTICATED"
    assert await workers.end(signal.SIGTERM) == 0


async def test_sigterm_drains_all_workers(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, SHUTDOWN_GRACE="600")
    held = [
        await hold(fleet, caller, (await caller.create(title="Stop")).id)
        for caller in workers.callers.values()
    ]
    workers.send_signal(signal.SIGTERM)
    # As an init system does, which signals each process of a service: that is no second request.
    for pid in workers.pids.values():
        os.kill(pid, signal.SIGTERM)
    await workers.logged("stopping", 2)
    for each in held:
        each.gate.set()
        reply = await each.stream.reply()
        assert (reply.state, reply.attempt) == (COMPLETED, 1)
    assert await workers.end(signal.SIGCONT) == 0
    assert not [line for line in workers.lines if "worker ended" in line]


async def test_a_second_signal_hurries_all_workers(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, SHUTDOWN_GRACE="600")
    for caller in workers.callers.values():
        await hold(fleet, caller, (await caller.create(title="Stop")).id)
    workers.send_signal(signal.SIGINT)
    await workers.logged("stopping", 2)
    assert await workers.end(signal.SIGINT) == 0


async def test_a_killed_worker_is_replaced_and_its_replies_go_on(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, LEASE_TTL="1")
    (killed, caller), (_, other) = workers.callers.items()
    conversation = await caller.create(title="Killed")
    held = await hold(fleet, caller, conversation.id)
    watch = other.watch(conversation.id)
    await text_of(watch, held.id, HALF)
    os.kill(workers.pids[killed], signal.SIGKILL)
    reply = await watch.final(held.id)
    assert (reply.state, reply.attempt) == (COMPLETED, 2)
    watch.cancel()
    ended = (await workers.logged("worker ended"))[0]
    assert (ended["worker"], "SIGKILL" in ended["error"]) == (killed, True)
    again = (await workers.logged("worker serving", 3))[2]
    assert again["worker"] == killed
    assert again["pid"] not in workers.pids.values()
    assert await workers.end(signal.SIGTERM) == 0


async def test_a_worker_that_cannot_start_again_is_tried_ever_more_seldom(
    fleet: Colloquy,
) -> None:
    workers = await Workers.serving(fleet)
    models = fleet.models_file.read_text()
    fleet.models_file.unlink()
    os.kill(workers.pids[2], signal.SIGKILL)
    ended = await workers.logged("worker ended", 2)
    assert [entry["restart_in"] for entry in ended[:2]] == [0.5, 1.0]
    assert str(fleet.models_file) in ended[1]["error"]
    assert {entry["worker"] for entry in ended} == {2}
    await workers.callers[1].call("ListModels", api.ListModelsRequest())
    fleet.models_file.write_text(models)
    await workers.logged("worker serving", 3)
    assert await workers.end(signal.SIGTERM) == 0


async def test_workers_drain_and_end_when_their_supervisor_is_killed(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, SHUTDOWN_GRACE="600")
    caller = workers.callers[1]
    held = await hold(fleet, caller, (await caller.create(title="Orphans")).id)
    workers.send_signal(signal.SIGKILL)
    await workers.logged("stopping", 2)
    held.gate.set()
    reply = await held.stream.reply()
    assert (reply.state, reply.attempt) == (COMPLETED, 1)
    await workers.end()  # waits until none is left that could write to its output


async def test_a_worker_that_did_not_end_well_shows_in_the_exit_code(fleet: Colloquy) -> None:
    workers = await Workers.serving(fleet, SHUTDOWN_GRACE="600")
    caller = workers.callers[2]
    await hold(fleet, caller, (await caller.create(title="Killed")).id)
    workers.send_signal(signal.SIGTERM)
    await workers.logged("stopping", 2)
    os.kill(workers.pids[2], signal.SIGKILL)
    assert await workers.end(signal.SIGCONT) == 1
    assert workers.lines[-1] == "colloquy: worker 2 was ended by SIGKILL while it stopped"
