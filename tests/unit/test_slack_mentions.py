"""Mentions in a model's text notify nobody; what people write reads well to a model."""

from __future__ import annotations

import re

import pytest
from colloquy_slack.mentions import (
    BREAK,
    escape,
    mentioned_users,
    nameless,
    neutralise,
    to_plain_text,
)
from hypothesis import given
from hypothesis import strategies as st

ANGLED = re.compile(r"<!(channel|here|everyone|group|subteam)|<@[UWB]\w", re.IGNORECASE)
ALIVE = re.compile(rf"{ANGLED.pattern}|(?<![\w@])@(channel|here|everyone|group)\b", re.IGNORECASE)
PIECES = st.sampled_from(
    [
        *("<!channel>", "<!here|here>", "<@U123>", "<@W1|x>", "<!subteam^S1|@g>", "@channel"),
        *("@Here", "@everyone", " ", "a", "<", "@", "!", "`", "\n", "```\n", "&lt;"),
        "<!date^1^{date}|x>",
    ]
)


@given(st.lists(PIECES).map("".join))
def test_no_mention_stays_alive_and_nothing_else_changes(text: str) -> None:
    assert not ANGLED.search(neutralise(text))
    assert neutralise(text).replace(BREAK, "") == text
    assert not ANGLED.search(escape(text))
    words = text.replace("`", "")
    assert not ALIVE.search(neutralise(words))
    assert not ALIVE.search(escape(words))


@pytest.mark.parametrize(
    "text",
    [
        *("<!DOCTYPE html>", "me@here.com", "@app.route('/')", "<a@b.c>", "a < b && c > d"),
        *("@channels", "npm i @here/maps-api", "`@group` and ``a ` @here b``"),
        *("```css\n@group { }\n@here\n```", "- ~~~\n  @everyone\n", "> ```\n> @channel\n> ```"),
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert neutralise(text) == text


@pytest.mark.parametrize("text", ["`a` @here `b`", "`open\n\n@here `b`", "```\nx\n```\n@here"])
def test_a_mention_beside_code_is_none_either(text: str) -> None:
    assert neutralise(text) == text.replace("@here", f"@{BREAK}here")


def test_channels_and_groups_that_come_without_names_get_them() -> None:
    text = "<#C1> <#C2|> <#C3|named> <!subteam^S1> <!subteam^S2|@known> <!here> <@U1>"
    assert nameless(text) == ["C1", "C2", "S1"]
    names = {"C1": "general", "C2": "random", "S1": "designers"}
    assert to_plain_text(text, names, "UBOT") == (
        "#general #random #named @designers @known @here @U1"
    )


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
        (" <@UBOT> <@UBOT|bot>, hi", "hi"),
        ("is <@UBOT> any good?", "is @UBOT any good?"),
        ("hi <@UBOT>", "hi @UBOT"),
        ("&amp;lt;", "&lt;"),
        ("if a &lt; b &amp;&amp; c &gt; d:", "if a < b && c > d:"),
    ],
)
def test_markup_becomes_text(text: str, shown: str) -> None:
    assert to_plain_text(text, {}, "UBOT") == shown
