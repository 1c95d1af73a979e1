"""What a process knows of text that another one generates, and what it keeps for its watchers."""

from __future__ import annotations

from typing import Any, cast

from colloquy_server.database.models import Role, State
from colloquy_server.database.rows import MessageRow
from colloquy_server.replies.feeds import Feed
from colloquy_server.replies.live_reply import LiveText
from colloquy_server.replies.mirrors import Mirror, Mirrors

from tests.stateful.world import SteppedBus


def mirrors(live: LiveText) -> Mirrors:
    return Mirrors({"c": live}, {"c"}, SteppedBus(lambda _: None), lambda _: None)


def told(attempt: int, offset: int, text: str) -> dict[str, Any]:
    return {"conversation": "c", "message": "m", "attempt": attempt, "offset": offset, "text": text}


def row(attempt: int, content: str) -> MessageRow:
    return MessageRow(
        "m", "a", "c", 2, Role.ASSISTANT, None, State.GENERATING, 1, None, 0, 0,
        attempt=attempt, content=content,
    )  # fmt: skip


def test_a_mirror_takes_no_text_of_another_attempt() -> None:
    mirror = Mirror("m", 2, "abc")
    mirrors(mirror).receive(told(1, 3, "def"))
    assert mirror.text == "abc"
    mirrors(mirror).receive(told(2, 3, "def"))
    assert mirror.text == "abcdef"


def test_a_mirror_never_shrinks() -> None:
    mirror = Mirror("m", 1, "abc")
    mirrors(mirror).receive(told(1, 1, "b"))
    mirrors(mirror).expect(row(1, "a"))
    assert mirror.text == "abc"


def test_a_mirror_does_not_go_back_to_an_earlier_attempt() -> None:
    mirror = Mirror("m", 2, "a")
    own = mirrors(mirror)
    own.expect(row(1, "abc"))
    own.receive(told(2, 1, "b"))
    assert mirror.text == "ab"


def test_what_is_generated_here_is_told_by_nobody_else() -> None:
    live = LiveText("m", 1, "abc")
    mirrors(live).receive(told(1, 3, "def"))
    assert live.text == "abc"


def test_events_are_kept_only_until_something_changes() -> None:
    feed = Feed(cast(Any, None), "a", "c")
    assert feed.serialise(("key",), lambda: b"1") == b"1"
    assert feed.serialise(("key",), lambda: b"2") == b"1"
    feed.wake()
    assert feed.serialise(("key",), lambda: b"3") == b"3"
