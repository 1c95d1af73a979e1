"""What the terminal client prints: whole, once, and nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
import re

import pytest
import typer
from colloquy.api.resources_pb2 import Attachment, Conversation, Error, Message, User
from colloquy.errors import (
    ColloquyError,
    ConfigurationError,
    InvalidArgument,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from colloquy.terminal import reply_renderers
from colloquy.terminal.conversation_renderer import print_message, to_markdown, to_object
from colloquy.terminal.error_formatter import format_error
from colloquy.terminal.formatting import clean, clean_line, dump, to_json, to_tsv
from colloquy.terminal.markdown import finished_length, render
from colloquy.terminal.partial_ids import is_whole_id, pick_id
from colloquy.terminal.tables import Column, Row, print_table
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2Jgone\x00\x08\x7f\rback"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def paper(width: int = 60) -> Console:
    """A console without colours or cursor."""
    return Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)


@given(st.text())
def test_clean_text_has_no_controls_and_loses_nothing_else(text: str) -> None:
    cleaned = clean(text)
    assert not CONTROLS.search(cleaned)
    assert CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")) == cleaned


def test_lines_stay_lines() -> None:
    assert clean("a\r\nb\rc\td") == "a\nb\nc\td"
    assert clean_line(" a\nb \x1b[2J ") == "a b [2J"
    assert to_tsv(["a\tb", 3, "c\nd"]) == "a b\t3\tc d"


@given(st.text())
def test_json_is_safe_on_a_terminal_and_says_the_same(text: str) -> None:
    line = dump({"text": text})
    assert not CONTROLS.search(line)
    assert json.loads(line) == {"text": text}


def test_json_has_the_names_of_the_protos_and_empty_fields() -> None:
    found = json.loads(to_json(Message(id="m", reply_to="p")))
    assert (found["reply_to"], found["content"], found["superseded"]) == ("p", "", False)


@pytest.mark.parametrize(
    "markdown",
    [
        HOSTILE,
        f"# {HOSTILE}",
        f"```{HOSTILE}\n{HOSTILE}\n```",
        f"`{HOSTILE}` **{HOSTILE}** [{HOSTILE}](http://a/%1b%5b31m)",
        "<http://a/%1B%5B31m> &#27;[31m &#x9b;2J &#x1b;",
        f"| {HOSTILE} |\n|---|\n| {HOSTILE} |",
        f"![{HOSTILE}](http://a/%1b) - {HOSTILE}",
    ],
)
def test_rendered_markdown_obeys_nobody(markdown: str) -> None:
    console = paper()
    console.print(render(markdown))
    assert not CONTROLS.search(printed(console))


def test_links_show_where_they_lead() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True)
    console.print(render("[my bank](http://evil.example)"))
    assert "http://evil.example" in printed(console)
    assert "\x1b]8" not in printed(console), "a hidden link"


def test_what_looks_like_html_and_line_breaks_stay() -> None:
    console = paper()
    console.print(render("Put <name> here.\nRoses are red\nviolets\n\n<div>\nblock\n</div>"))
    lines = [line.rstrip() for line in printed(console).splitlines()]
    assert lines == [
        "Put <name> here.",
        "Roses are red",
        "violets",
        "",
        "<div>",
        "block",
        "</div>",
    ]


def test_rich_markup_is_text() -> None:
    console = paper()
    message = Message(role=Message.ROLE_USER, content="[bold]x[/bold] [/] :smile: \x1b[1m")
    message.author.display_name = "[red]A[/red]\x1b]0;x\x07"
    print_message(console, message)
    assert printed(console).splitlines()[:2] == [
        "[red]A[/red]]0;x",
        "[bold]x[/bold] [/] :smile: [1m",
    ]


BLOCKS = st.sampled_from(
    [
        "A paragraph.\n\n",
        "Two\nlines\n\n",
        "# Heading\n\n",
        "Setext\n---\n\n",
        "- a\n- b\n\n",
        "- a\n\n  still a\n\n",
        "1. one\n2. two\n\n",
        "2. two\n\n3. three\n\n",
        "```python\nx = 1\n\n# y\n```\n\n",
        "~~~\n```\n~~~\n",
        "    indented\n\n",
        "> quoted\nlazy\n\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n",
        "***\n",
        "- [ ] task\n  1. deep\n     - deeper\n\n",
        "text `code` **bold\nstill** *em*\n\n",
        "<div>\nhtml\n</div>\n\n",
    ]
)


class Printed(reply_renderers.LiveRenderer):
    """Remembers what was printed for good."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.pieces: list[str] = []

    def _print(self, text: str) -> None:
        self.pieces.append(text)
        super()._print(text)


@settings(deadline=None, max_examples=40)
@given(st.lists(BLOCKS, max_size=6), st.lists(st.integers(1, 12), min_size=1))
def test_a_growing_text_is_printed_once_and_looks_as_if_it_had_come_at_once(
    blocks: list[str], sizes: list[int]
) -> None:
    text = "".join(blocks)
    view = Printed(paper())
    rest = text
    while rest:
        for size in sizes:
            view.append(rest[:size])
            rest = rest[size:]
            view.redraw()
    view.finish(Message(state=Message.STATE_COMPLETED, finish_reason="stop"))
    assert "".join(view.pieces) == text or not text.strip()
    assert all(piece.strip() for piece in view.pieces)
    at_once = paper()
    at_once.print(render(text))
    grown = "".join(printed_piece(piece) for piece in view.pieces)
    assert filled(grown) == filled(printed(at_once))


def printed_piece(text: str) -> str:
    console = paper()
    console.print(render(text))
    return printed(console)


def filled(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("One line without end", ""),
        ("A paragraph.\n\n", ""),
        ("A paragraph.\n\nAnother", ""),
        ("A paragraph.\n\nAnother\n", "A paragraph.\n\n"),
        ("1. a\n\n2", ""),
        ("1. a\n\n2. b\n", ""),
        ("a | b\n---|---\n", ""),
        ("x\n\n```\ncode\n\nmore\n", "x\n\n"),
    ],
)
def test_a_block_is_finished_when_another_has_begun(text: str, finished: str) -> None:
    assert text[: finished_length(text)] == finished


def test_more_than_the_screen_holds_is_not_drawn_before_it_is_printed() -> None:
    console = Console(file=io.StringIO(), width=40, height=10, force_terminal=True)
    view = reply_renderers.LiveRenderer(console)
    view.append("```\n" + "".join(f"line {n}\n" for n in range(50)))
    view.redraw()
    drawn = printed(console)
    assert "line 49" in drawn
    assert "line 30" not in drawn
    view.finish(Message(state=Message.STATE_COMPLETED))
    assert "line 30" in printed(console)


def test_how_a_reply_ended_is_told() -> None:
    failed = Message(state=Message.STATE_FAILED, error=Error(message="no\x1b[1m money"))
    assert reply_renderers.outcome(failed) == "failed: no[1m money"
    assert reply_renderers.outcome(Message(state=Message.STATE_CANCELLED)) == "stopped"
    cut = Message(state=Message.STATE_COMPLETED, finish_reason="length")
    assert reply_renderers.outcome(cut) == "cut off: the model reached its output limit"
    assert (
        reply_renderers.outcome(Message(state=Message.STATE_COMPLETED, finish_reason="stop")) == ""
    )


def test_a_live_view_tells_that_a_reply_begins_again() -> None:
    console = paper()
    view = reply_renderers.LiveRenderer(console)
    view.append("First.\n\nSecond.\n")
    view.redraw()
    view.restart()
    view.append("Anew.\n")
    view.redraw()
    view.finish(Message(state=Message.STATE_CANCELLED))
    assert filled(printed(console)) == [
        "First.",
        "— the reply begins again —",
        "Anew.",
        "[stopped]",
    ]


def test_a_plain_view_ends_its_line_and_tells_what_is_void(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = reply_renderers.PlainRenderer()
    view.append("half\x1b[1m")
    view.restart()
    view.append("whole")
    view.finish(Message())
    told = capsys.readouterr()
    assert told.out == "half[1m\nwhole\n"
    assert "begins again" in told.err


CONVERSATION = Conversation(
    id="c-1", title="T\x1b[1m", model="m", system_prompt="Be brief.", message_count=2
)
MESSAGES = [
    Message(
        role=Message.ROLE_USER,
        author=User(external_id="U1"),
        content="Hi",
        attachments=[Attachment(filename="a\x1b.txt")],
        state=Message.STATE_COMPLETED,
    ),
    Message(
        role=Message.ROLE_ASSISTANT,
        model="m",
        content="He",
        state=Message.STATE_FAILED,
        error=Error(message="broke"),
        superseded=True,
    ),
]


def test_a_conversation_as_markdown() -> None:
    text = "".join(to_markdown(CONVERSATION, MESSAGES))
    assert text == (
        "# T[1m\n\nConversation c-1, m, begun \n\n## System prompt\n\nBe brief.\n"
        "\n## U1 · \n\nHi\n\n*[file: a.txt (file, 0 B)]*\n"
        "\n## m · \n\nHe\n\n*[a later reply took its place]*\n\n*[failed: broke]*\n"
    )


def test_a_conversation_as_markdown_tells_the_messages_ids_if_asked() -> None:
    messages = [Message(id="message-1", role=Message.ROLE_USER, content="Hi")]
    assert "message-1" in "".join(to_markdown(CONVERSATION, messages, with_ids=True))
    assert "message-1" not in "".join(to_markdown(CONVERSATION, messages))


def test_a_conversation_as_json() -> None:
    found = to_object(CONVERSATION, MESSAGES)
    assert found["conversation"]["title"] == "T\x1b[1m", "JSON escapes it"
    assert [message["content"] for message in found["messages"]] == ["Hi", "He"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("Failed to connect: Connection refused"), "no server answers at a:1: start"),
        (Unavailable("name resolution"), "no server answers at a:1 (name resolution): start"),
        (Unavailable("last error: Socket closed"), "ADDRESS, https://a:1 if that one has TLS"),
        (Unauthenticated("unknown key"), "does not accept the key (unknown key): set CONVERSATION"),
        (Unimplemented("UploadAttachment"), "a:1 cannot do this yet (UploadAttachment)"),
        (InvalidArgument("model: no", fields={"model": "no"}), "model: no"),
        (InvalidArgument("bad", fields={"a": "x", "b": "y"}), "bad; a: x; b: y"),
        (ConfigurationError("no key:\nset\x1b[1m it"), "no key: set[1m it"),
        (ColloquyError("other"), "other"),
        (FileNotFoundError(2, "No such file", "x.txt"), "x.txt: No such file"),
        (ZeroDivisionError("oops"), "something unexpected happened: ZeroDivisionError: oops"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(error: Exception, said: str) -> None:
    line = format_error(error, "a:1")
    assert said in line
    assert "\n" not in line
    assert not CONTROLS.search(line)


IDS = ["01a20472-4ff9-70da-9007-29f2915b7c2a", "01a2047b-a276-756b-9ede-20342b1dff67"]


def test_a_part_of_an_id_is_enough() -> None:
    assert pick_id("5B7C2A", IDS, "conversation") == IDS[0]
    assert pick_id("01a2047b", IDS, "conversation") == IDS[1]
    assert is_whole_id(IDS[0])
    assert not is_whole_id(IDS[0].upper())
    assert not is_whole_id("5b7c2a")


@pytest.mark.parametrize(
    ("part", "said"), [("7b", "too short"), ("ffffffff", "no account"), ("01a204", "fits 2 ids")]
)
def test_a_part_that_fits_none_or_many_is_wrong_usage(
    part: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        pick_id(part, IDS, "account")
    assert ended.value.exit_code == 2
    assert said in capsys.readouterr().err


MODEL = "accounts/fireworks/models/llama-v3p1-405b-instruct-with-a-very-long-name"
ID = "01a20472-4ff9-70da-9007-29f2915b7c2a"


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_a_table_cuts_nothing_however_narrow_the_screen(width: int) -> None:
    columns = (Column("ID"), Column("Messages", "{} messages"), Column("Model"), Column("Title"))
    rows = [Row((ID, "4", MODEL, "苹果 and pears")), Row((ID[::-1], "12", "m", ""), dim=True)]
    print_table(console := paper(width), columns, rows)
    text = printed(console)
    for cell in (ID, ID[::-1], MODEL, "苹果 and pears"):
        assert sum(cell in line for line in text.splitlines()) == 1, "on one line, whole"
    assert ("Messages" in text) == (width == 200), "a table where there is room"


def test_a_message_shows_its_id_whole() -> None:
    message = Message(id=ID, role=Message.ROLE_ASSISTANT, model=MODEL, content="Hi")
    print_message(console := paper(20), message, with_id=True)
    assert printed(console).splitlines()[:2] == [MODEL, ID]
