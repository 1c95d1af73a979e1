"""What a reply looks like as messages, and that Slack takes them."""

from __future__ import annotations

import pytest
from colloquy_slack.mentions import BREAK
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
    web_link=st.sampled_from(["", "https://chat.example.com/c/0190a"]),
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


def mrkdwn(markdown: str) -> str:
    return "\n".join(sections(markdown))


def test_emphasis_inside_words_is_seen_and_elsewhere_has_no_more_in_it() -> None:
    assert mrkdwn("un**frigging**believable") == f"un{BREAK}*frigging*{BREAK}believable\n"
    assert mrkdwn("日本**語**です ~~a~~b") == f"日本{BREAK}*語*{BREAK}です ~a~{BREAK}b\n"
    assert mrkdwn("***a*** ~~b **c**~~") == "_*a*_ ~b *c*~\n"
    assert mrkdwn("**a** (**b**) *c*, ~~d~~") == "*a* (*b*) _c_, ~d~\n"


def test_each_line_of_a_quote_is_one() -> None:
    assert mrkdwn("> a\n> b\n>\n> c\n>\n> - d\n> - e\n\nf") == (
        "> a\n> b\n\n> c\n\n> •   d\n> •   e\n\nf\n"
    )


def test_code_shows_what_it_is() -> None:
    told = mrkdwn("`a &amp; <b>`\n\n```sh\n#!/bin/sh\na <b> && c &lt; d\n```\n")
    assert "`a &amp;amp; &lt;b&gt;`" in told
    assert "```\n#!/bin/sh\na &lt;b&gt; &amp;&amp; c &amp;lt; d\n```" in told


def test_links_of_a_table_are_below_it() -> None:
    told = mrkdwn(
        "| Name | Where |\n|:-|-:|\n| **A**\\|B | [docs](https://x.org/?a=1) |\n| C | `<d>` |\n"
        "\nend"
    )
    assert told == (
        "```\n| Name | Where |\n|------|-------|\n| A|B  | docs  |\n| C    | &lt;d&gt;   |\n```\n"
        "•   <https://x.org/?a=1|docs>\n\nend\n"
    )


def test_no_entity_is_cut_in_two() -> None:
    for shift in range(6):
        pieces = sections("x" * shift + "<" * 4_000)
        assert all(piece.strip("x\n").replace("&lt;", "") == "" for piece in pieces)


def test_a_notification_is_plain_words() -> None:
    text = (
        "# Title\n\nSome **bold** [link](https://x.org) & `code`.\n\n```py\nprint(1)\n```\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n" + "word " * 100
    )
    (shown,) = render(ReplyView(Phase.COMPLETED, text), "17")
    assert shown.text.startswith("Title Some bold link &amp; code. print(1) a b 1 2 item word word")
    assert shown.text.endswith("…")
    assert len(shown.text) < 170
