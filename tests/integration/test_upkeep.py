"""What a server does all the time goes on, whatever one reply's row is like."""

from __future__ import annotations

import pytest
from colloquy_server.database.repository import queue

from tests.harness import Caller, Colloquy, words


async def test_one_reply_that_cannot_be_started_does_not_keep_others_waiting(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = queue.start

    def start_but_one(s, conversation_id, lease):  # type: ignore[no-untyped-def]
        if conversation_id == bad.id:
            raise ValueError("a row that nobody thought of")
        return start(s, conversation_id, lease)

    await colloquy.restart(max_live_replies=1)
    alice = alice.at(colloquy)
    bad, good, busy = [await alice.create(title=name) for name in ("Bad", "Good", "Busy")]
    monkeypatch.setattr(queue, "start", start_but_one)
    colloquy.provider.script(words(30, rate=100), words(1), words(1))
    first = alice.send(busy.id)
    await first.until("delta")
    stuck, waiting = alice.send(bad.id), alice.send(good.id)
    await stuck.accepted()
    reply = await waiting.reply()
    assert reply.state == reply.STATE_COMPLETED
    monkeypatch.setattr(queue, "start", start)
    assert (await stuck.reply()).state == reply.STATE_COMPLETED
    await first.reply()
