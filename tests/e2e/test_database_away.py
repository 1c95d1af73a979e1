"""A Postgres that fails over, or takes no writes, is away for a while: callers are told to come
back, and the server goes on by itself when it is there again."""

from __future__ import annotations

import asyncio
import signal

import psycopg
import pytest
from colloquy.api import resources_pb2 as resources

from tests.harness import Caller, Colloquy, ServerProcess
from tests.statuses import refused

pytestmark = pytest.mark.timeout(540)


async def fail_over(url: str, *, read_only: bool) -> None:
    """All connections end, and those that come lead to a server that takes writes, or none."""
    name = url.rpartition("/")[2].partition("?")[0]
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        await connection.execute("SET default_transaction_read_only = off")
        value = "on" if read_only else "off"
        await connection.execute(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}'.encode()
        )
        if read_only:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.mark.parametrize("colloquy", ["postgres"], indirect=True)
async def test_a_read_only_postgres_is_away_until_it_takes_writes(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.stop()
    process = ServerProcess(colloquy, LEASE_TTL="1")
    alice = alice.on(await process.start())
    conversation = await alice.create(title="Before")
    await alice.send(conversation.id).reply()
    await fail_over(colloquy.database_url, read_only=True)
    for _ in range(30):
        told = await refused(alice.create(title="Meanwhile"))
        assert told.status == "UNAVAILABLE"
        assert told.retry_delay
        await asyncio.sleep(0.1)  # an outage that lasts some loops of the server's
    # What is there can be read all the while.
    assert len(await alice.history(conversation.id)) == 2
    await fail_over(colloquy.database_url, read_only=False)
    reply = await alice.send(conversation.id).reply()
    assert reply.state == resources.Message.STATE_COMPLETED
    assert await process.end(signal.SIGTERM) == 0
    assert not any("Traceback" in line for line in process.lines)
    of_outage = [line for line in process.lines if '"database ' in line]
    assert any("25006" in line for line in of_outage)
    assert len(of_outage) < 30, "one line for each call or loop"
    await colloquy.start()
