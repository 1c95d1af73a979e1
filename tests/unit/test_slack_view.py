"""What a reply looks like, and that Slack takes it."""

from __future__ import annotations

import pytest
from colloquy_slack.outgoing.mrkdwn import SECTION, sections
from colloquy_slack.outgoing.rendering import (
    Form,
    Look,
    Phase,
    View,
    messages,
    metadata,
    needs_file,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.slack.blocks import check_blocks, check_text, notifications
from tests.unit.test_slack_split import TEXTS

VIEWS = st.builds(
    View,
    phase=st.sampled_from(Phase),
    text=TEXTS,
    model=st.sampled_from(["", "gpt-4o", "<!channel>"]),
    error=st.sampled_from(["", "It <!here> broke & stopped", "x" * 5_000]),
    notes=st.lists(st.sampled_from(["a", "<@U123> b"]), max_size=12).map(tuple),
)
FORMS = st.builds(Form, st.sampled_from(Look), st.booleans())


@given(VIEWS, FORMS)
def test_slack_takes_every_message_and_nobody_is_notified(view: View, form: Form) -> None:
    for number, shown in enumerate(messages(view, "17", form)):
        check_text(shown.text)
        check_blocks(list(shown.blocks))
        assert not notifications(shown.text, list(shown.blocks))
        assert metadata("T:C:1", "r", number, shown.part)["event_payload"]["part"] == number


NOTES = tuple(f"note {number}" for number in range(10))


@pytest.mark.parametrize("look", [Look.MARKDOWN, Look.MRKDWN])
@pytest.mark.parametrize(
    "text",
    [
        "".join(f"## H{number}\n\ntext\n\n" for number in range(60)),
        "Head\n===\n\ntext\n\n" * 60,
        "Head\n-\n\ntext\n\n" * 60,
        "a | b\n--- | ---\n1 | 2\n\ntext\n\n" * 60,
        "<@UA" * 6_000,
        "<x> & y\n" * 3_000,
    ],
    ids=["headings", "setext", "dashes", "tables", "mentions", "escapes"],
)
def test_slack_takes_messages_full_of_what_grows(text: str, look: Look) -> None:
    for phase in (Phase.COMPLETED, Phase.FAILED):
        view = View(phase, text, "gpt", error="No.", notes=NOTES)
        for shown in messages(view, "17", Form(look), most=2):
            check_blocks(list(shown.blocks))


@given(TEXTS)
def test_sections_of_mrkdwn_are_short_enough(text: str) -> None:
    assert all(len(section) <= SECTION for section in sections(text))


def labels(view: View) -> set[str]:
    return {
        element["text"]["text"]
        for shown in messages(view, "17")
        for block in shown.blocks
        if block["type"] == "actions"
        for element in block["elements"]
    }


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (View(), {"Stop"}),
        (View(Phase.WRITING, "text"), {"Stop"}),
        (View(Phase.COMPLETED, "text"), {"Regenerate"}),
        (View(Phase.CANCELLED, "text"), {"Regenerate"}),
        (View(Phase.FAILED, error="No."), {"Try again"}),
        (View(Phase.FAILED, error="No.", is_repeatable=False), set()),
    ],
)
def test_the_buttons_fit_the_phase(view: View, wanted: set[str]) -> None:
    assert labels(view) == wanted


def test_only_an_answer_of_many_messages_is_attached() -> None:
    assert not needs_file(View(Phase.COMPLETED, "word " * 7_000), Form())
    assert needs_file(View(Phase.COMPLETED, "word " * 10_000), Form())
    assert not needs_file(View(Phase.WRITING, "word " * 10_000), Form())
    assert needs_file(View(Phase.COMPLETED, "word"), Form(Look.FILE_ONLY))


def test_equal_messages_have_equal_digests() -> None:
    one, same, other = (
        messages(View(Phase.WRITING, text), "17")[0].digest for text in ("a", "a", "b")
    )
    assert one == same != other


def test_tables_become_code_in_mrkdwn_and_code_stays() -> None:
    told = "\n".join(sections("| a | b |\n|---|---|\n| 1 | 2 |\n\n```\n| x |\n```\n"))
    assert told.count("```") == 4
