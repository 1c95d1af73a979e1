"""SearchMessages: what was said is found again, by those who may."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api import convert
from colloquy_server.database import tokenizer

from tests import fleets
from tests.fakes.provider import Answer
from tests.harness import Caller, Colloquy, eventually
from tests.statuses import refused

pytestmark = fleets.ALONE

SCRIPTS = [
    ("Crème brûlée", "creme BRULEE"),
    ("Straße nach Süden", "strasse"),
    ("snake_case_name", "case"),
    ("我喜欢吃苹果", "苹果"),
    ("It is done 🎉🎉", "🎉"),
    ("mail me@example.com now", "example"),
    ("C++ and C#", "c++"),
    ("version 1.2.3", "1.2"),
    ("Привет, мир", "МИР"),
]

HOSTILE = [
        '"', "'", "''", '"unclosed', "a AND", "OR OR", "NOT", "NEAR(a b)", "a* b*", "(", ")))",
    "words : fox", "owner:x", "^a", "-a", "a & b | !c", "<->", "%", "_", "\\", "; DROP TABLE",
    "\U0001f937\u200d\u2642\ufe0f", "\u202e", "ﷺ½", "x" * 1_000, "a " * 500, "{a b}", "+", "?",
]  # fmt: skip


def request(query: str, **fields: object) -> api.SearchMessagesRequest:
    return api.SearchMessagesRequest(query=query, **fields)  # type: ignore[arg-type]


async def search(caller: Caller, query: str, **fields: object) -> api.SearchMessagesResponse:
    found: api.SearchMessagesResponse = await caller.call(
        "SearchMessages", request(query, **fields)
    )
    return found


async def contents(caller: Caller, query: str, **fields: object) -> list[str]:
    return [hit.message.content for hit in (await search(caller, query, **fields)).hits]


async def count(caller: Caller, query: str, **fields: object) -> int:
    return len(await contents(caller, query, **fields))


async def found(caller: Caller, query: str, *texts: str, **fields: object) -> None:
    """Waits until exactly these texts are found: a message can be, soon after it is finished."""
    wanted = list(texts)
    assert await eventually(lambda: contents(caller, query, **fields), wanted) == wanted


async def say(caller: Caller, conversation_id: str, *texts: str) -> list[resources.Message]:
    return [await caller.send(conversation_id, text).reply() for text in texts]


LONG_WORDS = " ".join(f"{number:064x}" for number in range(16_000))
EXPANDING = " ".join("ﷺ" * 16 for _ in range(20_000))


@pytest.mark.parametrize("text", [LONG_WORDS, EXPANDING], ids=["long", "expanding"])
async def test_whatever_is_said_can_be_stored_and_found_by_its_beginning(
    colloquy: Colloquy, alice: Caller, text: str
) -> None:
    colloquy.provider.script(Answer(pieces=[text]))
    conversation = await alice.create(title="Long")
    reply = await alice.send(conversation.id, "Say much").reply()
    assert (reply.state, reply.content) == (resources.Message.STATE_COMPLETED, text)
    await found(alice, text.split()[0], text)


async def test_a_search_that_takes_long_stops_nobody(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text and a query that are made to be slow to compare: meanwhile others are answered."""
    colloquy.provider.default = Answer(tokens=1)
    conversation = await alice.create(title="Slow")
    text = "a " * 20_000
    await say(alice, conversation.id, *[text] * 5)
    await found(alice, "a", *[text] * 5)
    snippet, answered = tokenizer.snippet, threading.Event()
    loop, began = asyncio.get_running_loop(), asyncio.Event()
    waited = []

    def slow(*how: Any) -> str:
        loop.call_soon_threadsafe(began.set)
        waited.append(answered.wait(30))
        return snippet(*how)

    monkeypatch.setattr(tokenizer, "snippet", slow)
    searching = asyncio.create_task(search(alice, "a-" * 250))
    await began.wait()
    assert (await alice.send(conversation.id, "Still there?").reply()).content
    answered.set()
    assert len((await searching).hits) == 5
    assert waited == [True] * 5


async def test_messages_are_found_by_their_words_newest_first(
    colloquy: Colloquy, alice: Caller
) -> None:
    colloquy.provider.script(Answer(pieces=["A fox is ", "a mammal."]), Answer(pieces=["Yes."]))
    conversation = await alice.create()
    await say(alice, conversation.id, "The quick brown fox", "Is the FOX brown?")
    await found(alice, "fox", "Is the FOX brown?", "A fox is a mammal.", "The quick brown fox")
    assert await contents(alice, "brown fox quick") == ["The quick brown fox"]
    assert await contents(alice, "foxes") == []
    (hit,) = (await search(alice, "mammal")).hits
    assert hit.snippet == "A fox is a «mammal»."
    assert hit.message.role == resources.Message.ROLE_ASSISTANT
    assert hit.message.conversation_id == conversation.id


async def test_a_snippet_shows_the_hit_in_a_long_text(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    await say(alice, conversation.id, "before " * 500 + "the Needle, here " + "after " * 500)
    await eventually(lambda: count(alice, "needle"), 1)
    (hit,) = (await search(alice, "needle")).hits
    assert hit.snippet.startswith("…before before")
    assert "the «Needle», here after" in hit.snippet
    assert hit.snippet.endswith("…")
    assert len(hit.snippet) < 300


async def test_words_of_all_scripts_are_found(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    await say(alice, conversation.id, *(text for text, _ in SCRIPTS))
    for text, query in SCRIPTS:
        await found(alice, query, text)


async def test_no_query_has_a_syntax(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create()
    await say(alice, conversation.id, "fox")
    await found(alice, "fox", "fox")
    for query in HOSTILE:
        assert await contents(alice, query) == [], query


async def test_a_search_stays_in_its_account_and_conversation(
    colloquy: Colloquy, alice: Caller
) -> None:
    bob = await colloquy.account("bob")
    hers, other, his = await alice.create(), await alice.create(), await bob.create()
    await say(alice, hers.id, "secret one")
    await say(alice, other.id, "secret two")
    await say(bob, his.id, "secret three")
    await found(alice, "secret", "secret two", "secret one")
    await found(bob, "secret", "secret three")
    assert await contents(alice, "secret", conversation_id=hers.id) == ["secret one"]
    for identifier in (alice.account_id, hers.id):
        assert await contents(bob, identifier) == []
    refusal = await refused(bob.call("SearchMessages", request("secret", conversation_id=hers.id)))
    assert refusal.reason == "CONVERSATION_NOT_FOUND"


async def test_pages_join_without_gap_or_overlap(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.default = Answer(tokens=1)
    conversation = await alice.create()
    await say(alice, conversation.id, *(f"page {n}" for n in range(20)))
    await eventually(lambda: count(alice, "page", page_size=100), 20)
    texts, token = [], ""
    while True:
        page = await search(alice, "page", page_size=7, page_token=token)
        texts += [hit.message.content for hit in page.hits]
        token = page.next_page_token
        if not token:
            break
        assert len(page.hits) == 7
    assert texts == [f"page {n}" for n in reversed(range(20))]
    refusal = await refused(alice.call("SearchMessages", request("page", page_token="x")))
    assert refusal.reason == "INVALID_FIELD"


async def test_a_page_token_tells_nothing_and_outlives_what_it_stands_at(
    colloquy: Colloquy, alice: Caller
) -> None:
    """It names a message of the caller's. A number would count what everybody says."""
    colloquy.provider.default = Answer(tokens=1)
    bob = await colloquy.account("bob")
    conversation, others = await alice.create(title="Hers"), await bob.create(title="His")
    await say(alice, conversation.id, "page 0", "page 1", "page 2")
    await say(bob, others.id, "page of bob")
    await eventually(lambda: count(alice, "page"), 3)
    page = await search(alice, "page", page_size=2)
    last = page.hits[-1].message
    assert base64.urlsafe_b64decode(page.next_page_token) == f'["{last.id}"]'.encode()
    await alice.call("DeleteMessage", api.DeleteMessageRequest(message_id=last.id))
    rest = await search(alice, "page", page_token=page.next_page_token)
    assert [hit.message.content for hit in rest.hits] == ["page 0"]


async def test_each_hit_is_converted_once(
    colloquy: Colloquy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await alice.create(title="Once")
    await say(alice, conversation.id, "fox one", "fox two", "fox three")
    await found(alice, "fox", "fox three", "fox two", "fox one")
    converted = []
    message = convert.message

    def convert_message(row: Any, *more: Any) -> resources.Message:
        converted.append(row.id)
        return message(row, *more)

    monkeypatch.setattr(convert, "message", convert_message)
    hits = (await search(alice, "fox")).hits
    assert converted == [hit.message.id for hit in hits]
    assert len(converted) == 3


async def test_what_is_deleted_is_not_found(colloquy: Colloquy, alice: Caller) -> None:
    first, second = await alice.create(), await alice.create()
    await say(alice, first.id, "going")
    await say(alice, second.id, "going on")
    await found(alice, "going", "going on", "going")
    await alice.call("DeleteConversation", api.DeleteConversationRequest(conversation_id=first.id))
    assert await contents(alice, "going") == ["going on"]


async def test_a_cancelled_replys_text_is_found(colloquy: Colloquy, alice: Caller) -> None:
    colloquy.provider.script(Answer(pieces=["halfway ", "there"], stall_after=1))
    conversation = await alice.create()
    stream = alice.send(conversation.id, "Go")
    reply = (await stream.accepted()).reply
    await stream.until("delta")
    assert await contents(alice, "halfway") == []
    await alice.cancel(reply.id)
    await found(alice, "halfway", "halfway ")
    stream.cancel()
