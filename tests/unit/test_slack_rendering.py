"""What a reply looks like as messages, and that Slack takes them."""

from __future__ import annotations

import pytest
from colloquy_slack.outgoing.mrkdwn import SECTION, sections
from colloquy_slack.outgoing.rendering import (
    MessageFormat,
    TextFormat,
    metadata,
    needs_file,
    render,
)
from colloquy_slack.outgoing.reply_view import Phase, ReplyView
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.slack.blocks import check_blocks, check_text, notifications
from tests.unit.test_slack_split import TEXTS

VIEWS = st.builds(
    ReplyView,
    phase=st.sampled_from(Phase),
    text=TEXTS,
    model=st.sampled_from(["", "gpt-4o", "<!channel>"]),
    error=st.sampled_from(["", "It <!here> broke & stopped", "x" * 5_000]),
    notes=st.lists(st.sampled_from(["a", "<@U123> b"]), max_size=12).map(tuple),
)
FORMS = st.builds(MessageFormat, st.sampled_from(TextFormat), st.booleans())


@given(VIEWS, FORMS)
def test_slack_takes_every_message_and_nobody_is_notified(
    view: ReplyView, form: MessageFormat
) -> None:
    for number, shown in enumerate(render(view, "17", form)):
        check_text(shown.text)
        check_blocks(list(shown.blocks))
        assert not notifications(shown.text, list(shown.blocks))
        assert metadata("T:C:1", "r", number, shown.part)["event_payload"]["part"] == number


NOTES = tuple(f"note {number}" for number in range(10))


@pytest.mark.parametrize("look", [TextFormat.MARKDOWN, TextFormat.MRKDWN])
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
def test_slack_takes_messages_full_of_what_grows(text: str, look: TextFormat) -> None:
    for phase in (Phase.COMPLETED, Phase.FAILED):
        view = ReplyView(phase, text, "gpt", error="No.", notes=NOTES)
        for shown in render(view, "17", MessageFormat(look), max_messages=2):
            check_blocks(list(shown.blocks))


@given(TEXTS)
def test_sections_of_mrkdwn_are_short_enough(text: str) -> None:
    assert all(len(section) <= SECTION for section in sections(text))


def labels(view: ReplyView) -> set[str]:
    return {
        element["text"]["text"]
        for shown in render(view, "17")
        for block in shown.blocks
        if block["type"] == "actions"
        for element in block["elements"]
    }


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (ReplyView(), {"Stop"}),
        (ReplyView(Phase.GENERATING, "text"), {"Stop"}),
        (ReplyView(Phase.COMPLETED, "text"), {"Regenerate"}),
        (ReplyView(Phase.CANCELLED, "text"), {"Regenerate"}),
        (ReplyView(Phase.FAILED, error="No."), {"Try again"}),
        (ReplyView(Phase.FAILED, error="No.", is_repeatable=False), set()),
    ],
)
def test_the_buttons_fit_the_phase(view: ReplyView, wanted: set[str]) -> None:
    assert labels(view) == wanted


def test_only_an_answer_of_many_messages_is_attached() -> None:
    assert not needs_file(ReplyView(Phase.COMPLETED, "word " * 7_000), MessageFormat())
    assert needs_file(ReplyView(Phase.COMPLETED, "word " * 10_000), MessageFormat())
    assert not needs_file(ReplyView(Phase.GENERATING, "word " * 10_000), MessageFormat())
    assert needs_file(ReplyView(Phase.COMPLETED, "word"), MessageFormat(TextFormat.FILE_ONLY))


def test_equal_messages_have_equal_digests() -> None:
    one, same, other = (
        render(ReplyView(Phase.GENERATING, text), "17")[0].digest for text in ("a", "a", "b")
    )
    assert one == same != other


def test_tables_become_code_in_mrkdwn_and_code_stays() -> None:
    told = "\n".join(sections("| a | b |\n|---|---|\n| 1 | 2 |\n\n```\n| x |\n```\n"))
    assert told.count("```") == 4
