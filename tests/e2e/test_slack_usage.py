"""What people in Slack are told of budgets, and of what they used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy import AsyncConversationClient, AsyncReply
from colloquy.api.conversation_service_pb2 import GetUsageResponse
from colloquy.api.resources_pb2 import (
    USAGE_GROUP_API_KEY,
    USAGE_GROUP_MODEL,
    Budget,
    UsageRow,
    User,
)
from colloquy.errors import ResourceExhausted

from tests.harness import Colloquy
from tests.slack_harness import SlackStage, text_of, words_of


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[SlackStage]:
    async with Colloquy(tmp_path) as colloquy, SlackStage(colloquy) as running:
        yield running


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Whose usage was asked for, and how. What is answered has a budget of that user, one of
    another, one of a key that was used, and one of another key."""
    asked: list[dict[str, Any]] = []

    async def get_usage(_client: AsyncConversationClient, **how: Any) -> GetUsageResponse:
        asked.append(how)
        usd, month = Budget.UNIT_USD, Budget.PERIOD_MONTH
        budgets = [
            Budget(limit=1, used=0.5, unit=usd, period=month, user_id=how["user_id"]),
            Budget(limit=2, unit=usd, period=month, user_id="somebody else"),
            Budget(limit=30, unit=usd, period=month, api_key_id="k1"),
            Budget(limit=40, unit=usd, period=month, api_key_id="k2"),
            Budget(limit=5, unit=Budget.UNIT_REPLIES, period=Budget.PERIOD_DAY),
        ]
        rows = [
            UsageRow(model="a<b", api_key_id="k1", replies=1, input_tokens=1_000, cost_usd=0.4),
            UsageRow(model="small", api_key_id="k1", output_tokens=7, cost_usd=0.1),
            UsageRow(model="a<b", replies=1, input_tokens=10),
        ]
        return GetUsageResponse(rows=rows, budgets=budgets)

    monkeypatch.setattr(AsyncConversationClient, "get_usage", get_usage)
    return asked


async def test_a_budget_that_is_used_up_is_told_once_and_the_message_can_be_sent_again(
    stage: SlackStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, tried = AsyncConversationClient.send, []

    def refuse_first(client: AsyncConversationClient, *what: Any, **how: Any) -> AsyncReply:
        tried.append(what)
        if len(tried) == 1:
            raise ResourceExhausted(
                "The budget starts anew at 2026-12-01 00:00 UTC.",
                reason="BUDGET_EXCEEDED",
                retry_after=3 * 86_400,
            )
        return send(client, *what, **how)

    monkeypatch.setattr(AsyncConversationClient, "send", refuse_first)
    said = stage.alice.post(stage.general, "Hello", mention=True)
    (message,) = await stage.answered(stage.general, said.ts)
    told = words_of(message)
    assert "starts anew at 2026-12-01 00:00 UTC. Try again then; `/colloquy usage` shows" in told
    # Nothing waits for it: what is said next has its turn.
    later = stage.bob.post(stage.general, "And I?", thread=said, mention=True)
    messages = await stage.answered(stage.general, said.ts, count=2)
    assert (len(tried), len(messages)) == (2, 2)
    assert later.ts != said.ts
    await stage.alice.click(message, "Try again").settled()
    await stage.slack.wait_for(lambda: text_of([message]))
    assert (len(tried), len(stage.reply_messages(stage.general, said.ts))) == (3, 2)


async def test_people_are_told_what_they_used_and_the_budgets_that_hold_for_them(
    stage: SlackStage, asked: list[dict[str, Any]]
) -> None:
    nobody = stage.bob.command("/colloquy", "usage", stage.general)
    await nobody.settled()
    assert (nobody.response["text"], asked) == ("You used nothing this month.", [])
    said = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, said.ts)
    command = stage.alice.command("/colloquy", "usage", stage.general)
    await command.settled()
    assert command.response == {
        "response_type": "ephemeral",
        "text": "*You used this month*\n"
        "• `a&lt;b`: 2 replies, 1,010 tokens in, 0 out, $0.40\n"
        "• `small`: 0 tokens in, 7 out, $0.10\n"
        "In all: 2 replies, 1,010 tokens in, 7 out, $0.50\n"
        "*Budgets*\n"
        "• $0.50 of $1.00 a month for you (50 %)\n"
        "• $0.00 of $30.00 a month for the key k1 (0 %)\n"
        "• 0 of 5 replies a day (0 %)",
    }
    (prompt, _) = await stage.stored(stage.thread(said.ts))
    assert asked == [
        {"user_id": prompt.author.id, "group_by": [USAGE_GROUP_MODEL, USAGE_GROUP_API_KEY]}
    ]


async def test_who_has_another_name_at_the_server_is_known_by_what_they_said(
    stage: SlackStage, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, said.ts)
    (prompt, _) = await stage.stored(stage.thread(said.ts))

    async def nobody(_client: AsyncConversationClient, _query: str) -> AsyncIterator[User]:
        for user in list[User]():
            yield user

    monkeypatch.setattr(AsyncConversationClient, "users", nobody)
    await stage.alice.post(stage.general, "usage", thread=said, mention=True).settled()
    await stage.slack.wait_for(
        lambda: "You used this month" in str(stage.alice.sees(stage.general))
    )
    assert [how["user_id"] for how in asked] == [prompt.author.id]
