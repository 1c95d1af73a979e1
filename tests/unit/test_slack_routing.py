"""Which messages are for the bot, in whatever order Slack delivers them."""

from __future__ import annotations

import itertools

import pytest
from colloquy_slack.database import inbox
from colloquy_slack.database.engine import Database
from colloquy_slack.incoming import routing
from colloquy_slack.incoming.message_events import UserMessage, parse

CALL, ASIDE, ANSWER, RECALL, QUESTION = (
    ("<@UBOT> hello", "1.000001"),
    ("<@U2> and you?", "1.000002"),
    ("Me too", "1.000003"),
    ("<@UBOT> go on", "1.000004"),
    ("Really?", "1.000005"),
)


def message(text: str, ts: str) -> UserMessage:
    event = {"channel": "C1", "ts": ts, "thread_ts": "1.000000", "user": "U1", "text": text}
    parsed = parse(event, "UBOT")
    assert isinstance(parsed, UserMessage)
    return parsed


@pytest.mark.parametrize(
    "order", [*itertools.permutations([ASIDE, RECALL, QUESTION])], ids=lambda o: str(len(o))
)
async def test_who_is_talked_to_does_not_depend_on_the_order_of_delivery(
    slack_url: str, order: tuple[tuple[str, str], ...]
) -> None:
    db = Database(slack_url)
    for text, ts in (CALL, *order):
        await db.run(routing.store_message, "T1", message(text, ts), 100.0)
    asked = {row.ts for row in await db.run(inbox.unfinished, "T1", (), 10)}
    assert asked == {CALL[1], RECALL[1], QUESTION[1]}
    await db.close()


async def test_what_follows_a_call_of_a_person_is_between_people(slack_url: str) -> None:
    db = Database(slack_url)
    for text, ts in (CALL, ASIDE, ANSWER):
        await db.run(routing.store_message, "T1", message(text, ts), 100.0)
    # Of before the call, it was for the bot, also when it comes late.
    early = ("What is new?", "1.0000015")
    await db.run(routing.store_message, "T1", message(*early), 100.0)
    asked = {row.ts for row in await db.run(inbox.unfinished, "T1", (), 10)}
    assert asked == {CALL[1], early[1]}
    await db.close()
