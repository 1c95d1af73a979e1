"""What was used, budgets and webhooks in the terminal, against a server in memory."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from colloquy.api import admin_service_pb2 as admin_pb
from colloquy.api.conversation_service_pb2 import GetUsageRequest, GetUsageResponse
from colloquy.api.resources_pb2 import (
    USAGE_GROUP_API_KEY,
    USAGE_GROUP_DAY,
    USAGE_GROUP_MODEL,
    USAGE_GROUP_USER,
    Budget,
    Conversation,
    Message,
    UsageRow,
    User,
)
from colloquy.budget_text import amount, describe_budget, dollars, in_time
from colloquy.terminal.commands.webhooks import Event
from colloquy.terminal.conversation_renderer import print_message, to_markdown
from colloquy.terminal.usage_renderer import print_usage
from rich.console import Console
from typer.testing import Result

from tests.commands import invoke
from tests.fakes.conversations import Script
from tests.fakes.door import ADMIN_KEY, KEY, budget_exceeded
from tests.fakes.serving import ThreadedServing

Run = Callable[..., Result]

USER = "01a21bd9-5f1d-7079-a288-1b1542404177"

ROWS = [
    UsageRow(
        user=User(id="u1", display_name="Ann \x1b[31m"),
        model="large",
        replies=1_200,
        input_tokens=34_567,
        cached_input_tokens=4_000,
        output_tokens=8_901,
        cost_usd=12.5,
        estimated_tokens=77,
    ),
    UsageRow(model="small", replies=2, input_tokens=10, output_tokens=20, cost_usd=0.0123),
]


@pytest.fixture
def server() -> Iterator[ThreadedServing]:
    with ThreadedServing() as running:
        yield running


@pytest.fixture
def run(server: ThreadedServing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command against the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVERSATION_ADDRESS", server.address)
    monkeypatch.setenv("CONVERSATION_API_KEY", KEY)
    monkeypatch.setenv("ADMIN_API_KEY", ADMIN_KEY)
    return lambda *arguments: invoke(arguments)


def done(result: Result) -> list[str]:
    """The lines of a command that succeeded without a word beside it."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def monthly(used: float, limit: float = 50, user_id: str = "") -> Budget:
    """A budget of so many dollars a month that starts anew in four days."""
    budget = Budget(
        user_id=user_id,
        used=used,
        limit=limit,
        period=Budget.PERIOD_MONTH,
        unit=Budget.UNIT_USD,
    )
    budget.renew_time.FromSeconds(int(time.time()) + 4 * 86_400)
    return budget


def paper(width: int = 120) -> Console:
    """A console without colours or cursor."""
    return Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)


def lines_of(console: Console) -> list[str]:
    """What was printed."""
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


# --- usage ---


def test_usage_is_lines_on_a_pipe_and_whole_as_json(run: Run, server: ThreadedServing) -> None:
    server.fake.usage = GetUsageResponse(rows=ROWS, budgets=[monthly(40)])
    assert done(run("usage")) == [
        "\tu1\t\tlarge\t1200\t34567\t4000\t8901\t12.500000\t77",
        "\t\t\tsmall\t2\t10\t0\t20\t0.012300\t0",
    ]
    (line,) = done(run("usage", "--json"))
    assert json.loads(line)["budgets"][0]["limit"] == 50


def test_usage_is_asked_for_days_groups_and_a_user(run: Run, server: ThreadedServing) -> None:
    server.fake.people = [User(id="other", display_name="U0"), User(id="mia", external_id="U0")]
    done(run("usage"))
    by = ["--by", "day", "--by", "user", "--by", "key", "--by", "day"]
    done(run("usage", "--since", "2026-11-01", "--until", "2026-11-30", *by, "--user", "U0"))
    asked = [request for name, request in server.fake.calls if name == "GetUsage"]
    assert asked == [
        GetUsageRequest(group_by=[USAGE_GROUP_MODEL]),
        GetUsageRequest(
            start_day="2026-11-01",
            end_day="2026-11-30",
            group_by=[USAGE_GROUP_DAY, USAGE_GROUP_USER, USAGE_GROUP_API_KEY],
            user_id="mia",
        ),
    ]
    for wrong in (["--since", "yesterday"], ["--user", "nobody"]):
        refused = run("usage", *wrong)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert wrong[1] in refused.stderr


def test_usage_on_a_screen_has_its_sum_what_is_estimated_and_the_budgets() -> None:
    console = paper()
    budgets = [monthly(42, user_id="u1"), monthly(60)]
    print_usage(console, ROWS, [USAGE_GROUP_MODEL, USAGE_GROUP_USER], budgets)
    assert lines_of(console) == [
        "Model  User                 Replies  Tokens in  Cached  Tokens out     Cost  Estimated",
        "large  Ann [31m               1,200     34,567   4,000       8,901   $12.50         77",
        "small  (not here any more)        2         10       0          20  $0.0123",
        "all                           1,202     34,577   4,000       8,921   $12.51         77",
        "",
        "Budgets",
        "████████████████░░░░  $42.00 of $50.00 a month for Ann [31m (84 %), starts anew in 4 days",
        "████████████████████  $60.00 of $50.00 a month (120 %), starts anew in 4 days",
    ]


def test_usage_on_a_narrow_screen_names_each_number() -> None:
    console = paper(40)
    print_usage(console, ROWS[1:], [USAGE_GROUP_DAY], [])
    assert "2 replies · 10 tokens in" in "\n".join(lines_of(console))
    print_usage(nothing := paper(), [], [], [])
    assert lines_of(nothing) == ["nothing was used"]


def test_amounts_and_times_are_told_in_the_unit_that_fits() -> None:
    assert [dollars(value) for value in (0, 0.00001, 0.0042, 0.02, 1_234.567)] == [
        *("$0.00", "less than $0.0001", "$0.0042", "$0.02", "$1,234.57")
    ]
    assert amount(1, Budget.UNIT_REPLIES) == "1 reply"
    assert amount(12_000, Budget.UNIT_TOKENS) == "12,000 tokens"
    assert [in_time(seconds) for seconds in (-5, 60, 600, 7_200, 3 * 86_400)] == [
        *("in a minute", "in a minute", "in 10 minutes", "in 2 hours", "in 3 days")
    ]
    nothing_at_all = Budget(limit=0, unit=Budget.UNIT_REPLIES, period=Budget.PERIOD_DAY, reserved=2)
    assert describe_budget(nothing_at_all) == (
        "0 of 0 replies a day (100 %), 2 replies more set aside for what is on its way"
    )


# --- a budget that is used up ---


def test_a_budget_that_is_used_up_is_told_with_when_it_starts_anew(
    run: Run, server: ThreadedServing
) -> None:
    server.fake.refusals.append(budget_exceeded(days=3))
    refused = run("send", "Hello")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "error: This account may use $50.00 a month, and what is left is too little for another"
        " reply. The budget starts anew at 2026-12-01 00:00 UTC. That is in 3 days. `colloquy"
        " usage` shows what was used; whoever runs the server can raise the limit\n"
    )
    assert [name for name, _ in server.fake.calls].count("SendMessage") == 1
    assert [room.deleted for room in server.fake.rooms.values()] == [True]


# --- administration ---


def test_budgets_are_set_listed_and_deleted(run: Run, server: ThreadedServing) -> None:
    (account,) = done(run("admin", "create-account", "Acme", "--retention-days", "30"))
    assert server.accounts.accounts[account].retention_days == 30
    done(run("admin", "update-account", account, "--retention-days", "0"))
    assert server.accounts.accounts[account].retention_days == 0
    (first,) = done(run("admin", "set-budget", account[-8:], "--usd", "50", "--model", "large"))
    (second,) = done(
        run(
            "admin", "set-budget", account, "--tokens", "1000000", "--period", "day", "--user", USER
        )
    )
    server.accounts.budgets[first].used = 12.25
    fields = [line.split("\t") for line in done(run("admin", "list-budgets", account))]
    assert fields == [
        [first, "month", "usd", "50", "12.25", "0", "", "", "", "large"],
        [second, "day", "tokens", "1000000", "0", "0", "", USER, "", ""],
    ]
    done(run("admin", "delete-budget", first))
    assert list(server.accounts.budgets) == [second]
    for wrong in ([], ["--usd", "1", "--replies", "2"]):
        refused = run("admin", "set-budget", account, *wrong)
        assert refused.exit_code == 2
        assert "one of --usd, --tokens and --replies" in refused.stderr
    by_name = run("admin", "set-budget", account, "--usd", "1", "--user", "mia")
    assert by_name.exit_code == 2
    assert "'mia' is not the id of a user" in by_name.stderr


def test_an_accounts_usage_is_seen_with_the_platforms_key(
    run: Run, server: ThreadedServing
) -> None:
    (account,) = done(run("admin", "create-account", "Acme"))
    server.accounts.usage = ROWS
    assert len(done(run("admin", "usage", account, "--by", "key"))) == 2
    (asked,) = [
        request for name, request in server.accounts.calls if name == "AdminServiceGetUsage"
    ]
    assert (asked.account_id, asked.group_by) == (account, [USAGE_GROUP_API_KEY])


def test_webhooks_are_made_listed_and_deleted(run: Run, server: ThreadedServing) -> None:
    (account,) = done(run("admin", "create-account", "Acme"))
    events = ["--event", "reply.completed", "--event", "budget.exceeded"]
    made = run("admin", "create-webhook", account, "https://example.org/hook", *events)
    (webhook,) = server.accounts.webhooks.values()
    assert made.stdout == "whsec_secret\n"
    assert webhook.id in made.stderr
    (line,) = done(run("admin", "list-webhooks", account))
    assert line.split("\t")[2:] == ["reply.completed,budget.exceeded", "https://example.org/hook"]
    assert "--yes" in run("admin", "delete-webhook", webhook.id).stderr
    done(run("admin", "delete-webhook", webhook.id, "--yes"))
    assert server.accounts.webhooks == {}


def test_every_event_has_its_name(run: Run) -> None:
    told = admin_pb.Webhook.EventType.keys()
    assert {f"EVENT_TYPE_{event.name}" for event in Event} == {*told} - {"EVENT_TYPE_UNSPECIFIED"}
    assert {event.name.replace("_", ".", 1).lower() for event in Event} == {*Event}


def test_what_was_given_up_is_listed_and_tried_again(run: Run, server: ThreadedServing) -> None:
    (account,) = done(run("admin", "create-account", "Acme"))
    letter = admin_pb.WebhookDelivery(
        id="d1",
        webhook_id="w1",
        event_type=admin_pb.Webhook.EVENT_TYPE_CONVERSATION_TITLED,
        conversation_id="c1",
        attempts=12,
        last_error="It answered 500.",
    )
    server.accounts.dead_letters["d1"] = letter
    (line,) = done(run("admin", "list-dead-letters", account))
    assert line.split("\t") == [
        *("d1", "", "conversation.titled", "c1", "w1", "12", "It answered 500.")
    ]
    done(run("admin", "retry-dead-letter", "d1"))
    assert run("admin", "retry-dead-letter", "d1").stderr == "error: no such delivery\n"


# --- what a conversation says of it ---


def test_who_answered_in_whose_place_and_when_it_is_deleted_is_shown(
    run: Run, server: ThreadedServing
) -> None:
    reply = Message(
        role=Message.ROLE_ASSISTANT,
        state=Message.STATE_COMPLETED,
        content="Hi",
        model="small",
        requested_model="large",
    )
    print_message(console := paper(), reply)
    assert lines_of(console) == ["small", "Hi", "[answered by small instead of large]", ""]
    reply.requested_model = "small"
    print_message(console := paper(), reply)
    assert lines_of(console) == ["small", "Hi", ""]
    conversation = Conversation(id="c")
    assert "deleted" not in "".join(to_markdown(conversation, []))
    conversation.expire_time.FromSeconds(1_800_000_000)
    assert "is deleted on 2027-01-1" in "".join(to_markdown(conversation, []))
    script = Script([["Hi"]], requested_model="large-2")
    server.fake.scripts.append(script)
    answered = run("send", "Hello")
    assert answered.stdout == "Hi\n"
    assert answered.stderr == "(answered by fake-large instead of large-2)\n"
