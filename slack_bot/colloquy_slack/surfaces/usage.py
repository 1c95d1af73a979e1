"""`/colloquy usage`: what a person used this month, and the budgets that hold for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from colloquy.api.resources_pb2 import (
    USAGE_GROUP_API_KEY,
    USAGE_GROUP_MODEL,
    Budget,
    UsageRow,
)
from colloquy.budget_text import amount, describe_budget, dollars
from colloquy.errors import NotFound

from colloquy_slack.database import inbox
from colloquy_slack.external_ids import user_external_id
from colloquy_slack.mentions import escape
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.workspace import Workspace

_NOTHING = "You used nothing this month."


async def tell(runtime: Runtime, workspace: Workspace, user_id: str) -> str:
    """Return what to tell a Slack user. Raises ColloquyError."""
    person = await _server_id(runtime, workspace, user_id)
    if not person:
        return _NOTHING
    answer = await workspace.colloquy.get_usage(
        group_by=[USAGE_GROUP_MODEL, USAGE_GROUP_API_KEY], user_id=person
    )
    lines = ["*You used this month*", *_by_model(answer.rows)] if answer.rows else [_NOTHING]
    keys = {row.api_key_id for row in answer.rows}
    # The bot's key sees all budgets of the account.
    budgets = [one for one in answer.budgets if _is_for(one, person, keys)]
    if budgets:
        lines.append("*Budgets*")
    lines += [f"• {escape(describe_budget(one, {person: 'you'}))}" for one in budgets]
    return "\n".join(lines)


def _is_for(budget: Budget, person: str, keys: set[str]) -> bool:
    return budget.user_id in ("", person) and (not budget.api_key_id or budget.api_key_id in keys)


def _by_model(rows: Iterable[UsageRow]) -> list[str]:
    by_model: dict[str, list[UsageRow]] = defaultdict(list)
    for row in rows:
        by_model[row.model].append(row)
    lines = [f"• `{escape(model)}`: {_sum(found)}" for model, found in by_model.items()]
    if len(by_model) > 1:
        lines.append(f"In all: {_sum([row for found in by_model.values() for row in found])}")
    return lines


def _sum(rows: list[UsageRow]) -> str:
    replies = sum(row.replies for row in rows)
    read = sum(row.input_tokens for row in rows)
    written = sum(row.output_tokens for row in rows)
    cost = dollars(sum(row.cost_usd for row in rows))
    # A model that makes titles answers nobody.
    counted = f"{amount(replies, Budget.UNIT_REPLIES)}, " if replies else ""
    return f"{counted}{read:,} tokens in, {written:,} out, {cost}"


async def _server_id(runtime: Runtime, workspace: Workspace, user_id: str) -> str:
    """Return the id by which the server knows a Slack user; empty when it does not."""
    team_id, colloquy = workspace.team_id, workspace.colloquy
    name = user_external_id(team_id, user_id)
    async for found in colloquy.users(name):
        if found.external_id == name:
            return found.id
    # Whoever is known from elsewhere has another name there: what they said last tells it.
    reply_id = await runtime.db.run(inbox.last_reply_to, team_id, user_id)
    if not reply_id:
        return ""
    try:
        reply = await colloquy.get_message(reply_id)
        return (await colloquy.get_message(reply.reply_to)).author.id
    except NotFound:  # deleted meanwhile
        return ""
