"""DeleteMessage and DeleteUser: who may, what is gone, and who hears of it."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Any

from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.repository import deletion
from colloquy_server.database.repository import titles as title_rows
from colloquy_server.database.repository.titles import Exchange
from colloquy_server.database.transactions import EVERY_ACCOUNT

from tests.books import stored
from tests.e2e.talk import hold, said
from tests.fleets import ALONE, ANY
from tests.harness import Caller, Colloquy, Stream
from tests.statuses import refused
from tests.uploads import download, upload

CANCELLED = resources.Message.STATE_CANCELLED
ADMIN = admin_api.ApiKey.ROLE_ADMIN
MEMBER = admin_api.ApiKey.ROLE_MEMBER


async def delete(caller: Caller, message_id: str) -> None:
    await caller.call("DeleteMessage", api.DeleteMessageRequest(message_id=message_id))


async def delete_user(colloquy: Colloquy, user_id: str) -> None:
    admin = colloquy.admin
    request = admin_api.DeleteUserRequest(user_id=user_id)
    await admin.admin.DeleteUser(request, metadata=admin.metadata)


def texts(messages: Collection[resources.Message]) -> list[str]:
    return [message.content for message in messages if message.role == 1]


def is_empty(message: resources.Message) -> bool:
    """Whether nothing is left of what a deleted message said."""
    return message.deleted and not (
        message.content
        or message.HasField("author")
        or message.attachments
        or message.HasField("error")
        or message.rating
        or message.rating_comment
        or message.finish_reason
    )


async def denied(call: Awaitable[Any] | Stream, *expected: str) -> None:
    """Requires that a call fails with this status and, if it is named, this reason."""
    refusal = await refused(call)
    assert (refusal.status, refusal.reason)[: len(expected)] == expected


async def say(caller: Caller, conversation_id: str, content: str, **more: Any) -> tuple[str, str]:
    """Says something; returns the ids of prompt and reply when that has ended."""
    stream = caller.send(conversation_id, content, **more)
    accepted = await stream.accepted()
    await stream.rest()
    return accepted.message.id, accepted.reply.id


async def test_a_prompt_is_gone_with_its_replies_and_nothing_else_is(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create(title="Ours")
    kept, _ = await say(alice, talk.id, "First words")
    gone, reply = await say(alice, talk.id, "Second words", request_id="second")
    again = alice.regenerate(reply)
    regenerated = (await again.accepted()).reply.id
    await again.rest()
    await say(alice, talk.id, "Third words")
    last = (await alice.history(talk.id))[-1]
    assert gone in (await alice.receipt(last.id)).message_ids
    watch = alice.watch(talk.id)
    token = (await watch.until("conversation")).resume_token
    watch.cancel()

    await delete(alice, gone)
    await delete(alice, gone)

    assert texts(await alice.history(talk.id)) == ["First words", "Third words"]
    assert (await alice.conversation(talk.id)).message_count == 4
    for message_id in (gone, reply, regenerated):
        await denied(alice.message(message_id), "NOT_FOUND", "MESSAGE_NOT_FOUND")
    await denied(alice.cancel(reply), "NOT_FOUND", "MESSAGE_NOT_FOUND")
    await denied(alice.regenerate(reply), "NOT_FOUND", "MESSAGE_NOT_FOUND")
    rate = api.RateReplyRequest(message_id=reply, rating=resources.RATING_GOOD)
    await denied(alice.call("RateReply", rate), "NOT_FOUND", "MESSAGE_NOT_FOUND")
    told = await alice.receipt(last.id)
    assert not {gone, reply, regenerated} & {
        *told.message_ids,
        *(left.message_id for left in told.left_out),
    }
    resumed = alice.watch(talk.id, token)
    for _ in range(3):
        event = await resumed.until("message")
        assert is_empty(event.message)
    assert resumed.transcript.messages.keys() == {gone, reply, regenerated}
    resumed.cancel()
    repeated = alice.send(talk.id, "Second words", request_id="second")
    await denied(repeated, "NOT_FOUND", "MESSAGE_NOT_FOUND")

    await say(alice, talk.id, "Fourth words")
    asked = [text for _, text in said(colloquy.provider.reply_requests[-1].body)]
    assert "Second words" not in asked
    assert {"First words", "Third words", "Fourth words"} <= {*asked}
    assert (await alice.history(talk.id))[0].id == kept


async def test_watchers_hear_of_it(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create(title="Ours")
    gone, reply = await say(alice, talk.id, "Some words")
    watch = alice.watch(talk.id)
    await watch.until("conversation")
    await delete(alice, gone)
    first, second = await watch.until("message"), await watch.until("message")
    assert [first.message.id, second.message.id] == [gone, reply]
    assert is_empty(first.message)
    assert is_empty(second.message)
    watch.cancel()


async def test_a_reply_that_is_written_ends_and_the_next_begins(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create(title="Ours")
    held = await hold(colloquy, alice, talk.id)
    waiting = alice.send(talk.id, "And then?")
    await waiting.accepted()
    await delete(alice, held.prompt.id)
    final = await held.stream.reply()
    assert is_empty(final)
    assert final.state == CANCELLED
    assert (await waiting.reply()).state == resources.Message.STATE_COMPLETED
    held.gate.set()
    assert texts(await alice.history(talk.id)) == ["And then?"]
    assert [text for role, text in said(colloquy.provider.reply_requests[-1].body)] == ["And then?"]


async def test_a_reply_that_waits_does_not_begin(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create(title="Ours")
    held = await hold(colloquy, alice, talk.id)
    waiting = alice.send(talk.id, "And then?")
    accepted = await waiting.accepted()
    await delete(alice, accepted.message.id)
    final = await waiting.reply()
    assert is_empty(final)
    assert final.state == CANCELLED
    held.gate.set()
    await held.stream.reply()
    assert texts(await alice.history(talk.id)) == ["Hello"]
    assert len(colloquy.provider.reply_requests) == 1


async def test_what_is_deleted_while_a_reply_is_written_is_not_given_to_the_next(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create(title="Ours")
    gone, _ = await say(alice, talk.id, "A secret")
    held = await hold(colloquy, alice, talk.id, "Go on")
    await delete(alice, gone)
    held.gate.set()
    await held.stream.reply()
    await say(alice, talk.id, "And now?")
    asked = [text for _, text in said(colloquy.provider.reply_requests[-1].body)]
    assert "A secret" not in asked
    assert "Go on" in asked


@ANY
async def test_who_may_delete_a_message(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create(title="Ours")
    bob, carol = [
        await colloquy.key(alice.account_id, MEMBER, user=resources.User(external_id=name))
        for name in ("bob", "carol")
    ]
    prompt, reply = await say(bob, talk.id, "I am Bob")
    await denied(delete(carol, prompt), "PERMISSION_DENIED", "PERMISSION_DENIED")
    await denied(delete(bob, reply), "INVALID_ARGUMENT", "INVALID_FIELD")
    await denied(delete(await colloquy.account("mallory"), prompt), "NOT_FOUND")
    await denied(delete(bob, "0" * 8 + "-0000-7000-8000-" + "0" * 12), "NOT_FOUND")
    await delete(bob, prompt)
    other, _ = await say(bob, talk.id, "I am Bob still")
    await delete(alice, other)
    assert await alice.history(talk.id) == []
    made = await bob.create(title="Bob's")
    said, _ = await say(carol, made.id, "I am Carol, in what Bob made")
    await delete(bob, said)
    admin = await colloquy.key(
        alice.account_id, ADMIN, user=resources.User(external_id="administrator")
    )
    last, _ = await say(carol, made.id, "I am Carol still")
    await delete(admin, last)
    assert await alice.history(made.id) == []


@ALONE
async def test_a_title_goes_with_what_it_was_made_of(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create()
    colloquy.provider.title_answer = "About secrets"
    gone, _ = await say(alice, talk.id, "A secret")
    watch = alice.watch(talk.id)
    await watch.until(lambda e: e.conversation.title == "About secrets")
    await say(alice, talk.id, "The weather")
    colloquy.provider.title_answer = "About the weather"
    await delete(alice, gone)
    await watch.until(lambda e: e.HasField("conversation") and not e.conversation.title)
    await watch.until(lambda e: e.conversation.title == "About the weather")
    watch.cancel()


@ALONE
async def test_no_title_is_made_of_what_was_deleted_meanwhile(
    colloquy: Colloquy, alice: Caller
) -> None:
    talk = await alice.create(title="")
    db, account_id = colloquy.app.db, alice.account_id
    gone, _ = await say(alice, talk.id, "A secret")
    await delete(alice, gone)
    [(ask,)] = await stored(
        colloquy, "SELECT title_asks FROM conversations WHERE id = :id", id=talk.id
    )
    exchange = Exchange(gone, "A secret", "It is safe", ask=ask)
    change = await db.write(
        account_id, title_rows.set_title, talk.id, "About secrets", exchange, ()
    )
    assert change is None
    assert (await alice.conversation(talk.id)).title != "About secrets"


@ANY
async def test_a_file_stays_as_long_as_a_message_has_it(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create(title="Ours")
    file = await upload(alice, b"Some bytes")
    first, _ = await say(alice, talk.id, "Look", attachment_ids=[file.id])
    second, _ = await say(alice, talk.id, "Look again", attachment_ids=[file.id])
    await delete(alice, first)
    assert (await download(alice, file.id))[1] == b"Some bytes"
    await delete(alice, second)
    await denied(download(alice, file.id), "NOT_FOUND", "ATTACHMENT_NOT_FOUND")


async def test_a_user_is_gone_with_all_that_they_said(colloquy: Colloquy, alice: Caller) -> None:
    bob = await colloquy.key(alice.account_id, MEMBER, user=resources.User(external_id="bob"))
    shared, alone = await alice.create(title="Ours"), await bob.create(title="Mine")
    carol = resources.User(external_id="carol")
    _, reply = await say(alice, shared.id, "I am Carol", author=carol)
    for number in range(deletion._PROMPTS_AT_ONCE + 1):
        await say(bob, shared.id, f"I am Bob {number}")
    await say(bob, alone.id, "To myself")
    rating = api.RateReplyRequest(message_id=reply, rating=resources.RATING_BAD, comment="Bah")
    await bob.call("RateReply", rating)
    user = (await bob.history(shared.id))[-2].author
    watch, own = alice.watch(shared.id), bob.watch(shared.id)
    await watch.until("conversation")
    await own.until("conversation")

    await delete_user(colloquy, user.id)

    await denied(own, "UNAUTHENTICATED")
    await denied(bob.create(), "UNAUTHENTICATED")
    await denied(alice.conversation(alone.id), "NOT_FOUND")
    assert texts(await alice.history(shared.id)) == ["I am Carol"]
    found = await alice.conversation(shared.id)
    assert [person.external_id for person in found.participants] == ["carol"]
    assert found.message_count == 2
    event = await watch.until(lambda e: e.message.id == reply)
    assert (event.message.rating, event.message.rating_comment) == (0, "")
    told = watch.transcript.conversation  # which comes before the messages of its change
    assert told is not None
    assert [person.external_id for person in told.participants] == ["carol"]
    watch.cancel()
    await denied(delete_user(colloquy, user.id), "NOT_FOUND", "USER_NOT_FOUND")
    # Who has that name from now on is somebody else.
    await say(alice, shared.id, "A new Bob", author=resources.User(external_id="bob"))
    assert (await alice.history(shared.id))[-2].author.id != user.id


@ANY
async def test_the_default_user_stays(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create(title="Ours")
    await say(alice, talk.id, "I am the service")
    user = (await alice.history(talk.id))[0].author
    await denied(delete_user(colloquy, user.id), "INVALID_ARGUMENT", "INVALID_FIELD")
    assert texts(await alice.history(talk.id)) == ["I am the service"]


@ALONE
async def test_nobody_speaks_as_a_user_who_is_leaving(colloquy: Colloquy, alice: Caller) -> None:
    talk = await alice.create(title="Ours")
    bob = resources.User(external_id="bob")
    await say(alice, talk.id, "I am Bob", author=bob)
    user = (await alice.history(talk.id))[0].author
    await colloquy.app.db.write(EVERY_ACCOUNT, deletion.begin_leaving, user.id)
    late = alice.send(talk.id, "I am Bob still", author=resources.User(id=user.id))
    await denied(late, "INVALID_ARGUMENT", "INVALID_FIELD")
