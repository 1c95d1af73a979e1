"""Mentions in a model's text notify nobody; what people write reads well to a model."""

from __future__ import annotations

import re

import pytest
from colloquy_slack.mentions import BREAK, escape, mentioned_users, neutralise, to_plain_text
from hypothesis import given
from hypothesis import strategies as st

ALIVE = re.compile(
    r"<!(channel|here|everyone|group|subteam)|<@[UWB]\w|(?<![\w@])@(channel|here|everyone|group)\b",
    re.IGNORECASE,
)
PIECES = st.sampled_from(
    [
        *("<!channel>", "<!here|here>", "<@U123>", "<@W1|x>", "<!subteam^S1|@g>", "@channel"),
        *("@Here", "@everyone", " ", "a", "<", "@", "!", "`", "\n", "```\n", "&lt;"),
        "<!date^1^{date}|x>",
    ]
)


@given(st.lists(PIECES).map("".join))
def test_no_mention_stays_alive_and_nothing_else_changes(text: str) -> None:
    assert not ALIVE.search(neutralise(text))
    assert neutralise(text).replace(BREAK, "") == text
    assert not ALIVE.search(escape(text))


@pytest.mark.parametrize(
    "text",
    ["<!DOCTYPE html>", "me@here.com", "@app.route('/')", "<a@b.c>", "a < b && c > d", "@channels"],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert neutralise(text) == text


def test_what_people_write_gets_names_for_ids() -> None:
    text = "<@UBOT> ask <@U1> in <#C1|general> about <https://x.org/?a=1&amp;b=2|this> &lt;b&gt;"
    assert mentioned_users(text) == ["UBOT", "U1"]
    assert to_plain_text(text, {"U1": "Ann"}, "UBOT") == (
        "ask @Ann in #general about this (https://x.org/?a=1&b=2) <b>"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<!here> hello", "@here hello"),
        ("<mailto:a@b.c|a@b.c>", "a@b.c"),
        ("<https://x.org>", "https://x.org"),
        ("<@U9>", "@U9"),
        ("<@UBOT>: hi", "hi"),
        ("&amp;lt;", "&lt;"),
        ("if a &lt; b &amp;&amp; c &gt; d:", "if a < b && c > d:"),
    ],
)
def test_markup_becomes_text(text: str, shown: str) -> None:
    assert to_plain_text(text, {}, "UBOT") == shown
