"""A process that sends messages on SQLite, and kills itself in the middle: before any statement of
its transactions, or with them committed, before any of those who wait has been told.

    python -m tests.killed_writer WORK      prints one Killed a line, until nothing is left to kill

It loads its modules once, and forks a process for each of the steps.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from colloquy_server.database import sqlite
from colloquy_server.database.engine import open_database
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import sending
from colloquy_server.database.repository.changes import Lease
from colloquy_server.database.repository.sending import OnBusy, Prompt, Sent
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import Session
from colloquy_server.errors import ConversationBusy
from sqlalchemy import Engine, event

from tests.fakes.choices import own_model

BATCH = 3
"""Transactions in a batch; the first one only waits for the others."""

REFUSED = "This is refused"
"""The text that is sent in vain."""


@dataclass(frozen=True)
class Work:
    """A database, which is copied for each process, with an account and two conversations."""

    database: str
    account_id: str
    conversations: tuple[str, str]


@dataclass(frozen=True)
class Killed:
    """A process that killed itself: its database, the step before which it did, and what those
    who waited were told by then: the prompt and the reply of each text, none of what is refused."""

    database: str
    step: str
    told: dict[str, list[str]]


def prompts(work: Work) -> list[Prompt]:
    """What is sent at once: to a free conversation, in vain to one that is busy, to another one, a
    second time, and behind a reply."""
    first, second = work.conversations
    author = Author(external_id="somebody", display_name="Somebody")
    return [
        Prompt(first, "One", author, "one", OnBusy.ENQUEUE),
        Prompt(first, REFUSED, author, "refused", OnBusy.REJECT),
        Prompt(second, "Two", author, "two", OnBusy.ENQUEUE),
        Prompt(first, "One", author, "one", OnBusy.ENQUEUE),
        Prompt(first, "Three", author, "three", OnBusy.ENQUEUE),
    ]


async def send_all(work: Work, tell: Callable[[str], None], wanted: int) -> None:
    """Sends all prompts in batches, and is killed before step number `wanted` of it."""
    sqlite._BATCH_SIZE, sqlite._BATCH_SECONDS = BATCH, 3_600.0
    db = open_database(f"sqlite:///{work.database}", 1)
    loop = asyncio.get_running_loop()
    steps = count(1)
    deliver = sqlite._Job.deliver

    def die(step: str) -> None:
        tell(json.dumps({"step": step}))
        os.kill(os.getpid(), signal.SIGKILL)

    def before_statement(statement: str) -> None:
        # Whoever could have been told by now has been, and has said so.
        asyncio.run_coroutine_threadsafe(some_turns(), loop).result()
        if next(steps) == wanted:
            die(statement.strip())

    def before_delivery(job: Any) -> None:
        if next(steps) == wanted:
            die("DELIVER")
        deliver(job)

    def trace(connection: Any, _record: object) -> None:
        connection.set_trace_callback(before_statement)

    event.listen(Engine, "connect", trace)
    sqlite._Job.deliver = before_delivery  # type: ignore[assignment,method-assign]
    all_wait = threading.Event()

    def hold(_: Session) -> None:
        all_wait.wait()

    async def send(prompt: Prompt) -> None:
        lease = Lease(60 * MICROS, 10)
        try:
            sent: Sent = await db.write(
                work.account_id, sending.send, work.account_id, prompt, own_model, lease, 10
            )
        except ConversationBusy:
            tell(json.dumps({"text": prompt.content, "ids": []}))
        else:
            ids = [sent.prompt.id, sent.reply.id]
            tell(json.dumps({"text": prompt.content, "ids": ids}))

    tasks = [asyncio.create_task(db.write(work.account_id, hold))]
    tasks += [asyncio.create_task(send(prompt)) for prompt in prompts(work)]
    await asyncio.sleep(0)
    all_wait.set()
    await asyncio.gather(*tasks)
    await db.close()


async def some_turns() -> None:
    """Lets everything on this loop go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def run_killed(work: Work, wanted: int) -> Killed | None:
    """Forks a process that is killed before this step; None if it comes to its end first."""
    database = f"{work.database}-{wanted}"
    shutil.copy(work.database, database)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        own = Work(database, work.account_id, work.conversations)
        asyncio.run(send_all(own, lambda line: _write_line(writing, line), wanted))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as output:
        lines = [json.loads(line) for line in output]
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    if not ended:
        return None
    assert ended == -signal.SIGKILL
    (step,) = (line["step"] for line in lines if "step" in line)
    return Killed(database, step, {line["text"]: line["ids"] for line in lines if "text" in line})


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode())


def main(work: Work) -> None:
    """Kills a process at each step."""
    for wanted in count(1):
        killed = run_killed(work, wanted)
        if killed is None:
            return
        sys.stdout.write(json.dumps(asdict(killed)) + "\n")
    raise AssertionError


if __name__ == "__main__":
    main(Work(**json.loads(sys.argv[1])))
