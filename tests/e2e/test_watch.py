"""WatchConversation tells everybody the same, from wherever they begin."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta

import grpc
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.e2e.talk import HALF, hold, text_of
from tests.fakes.provider import Answer
from tests.fleets import ALONE, ALSO_BY_HTTP, ANY
from tests.harness import TITLE, Caller, Colloquy, ServerProcess, Stream, Transcript
from tests.statuses import refused

COMPLETED = resources.Message.STATE_COMPLETED
GENERATING = resources.Message.STATE_GENERATING
QUEUED = resources.Message.STATE_QUEUED


def kinds(stream: Stream) -> list[str | None]:
    return [event.WhichOneof("event") for event in stream.events]


def as_seen(events: list[api.ConversationEvent], upto: int) -> Transcript:
    """What a client holds that has seen the events up to this one."""
    transcript = Transcript()
    for event in events[: upto + 1]:
        transcript.take(event)
    return transcript


async def goes_on(
    alice: Caller, conversation_id: str, events: list[api.ConversationEvent]
) -> list[Stream]:
    """For each event a watch by a client that saw it last."""
    return [
        alice.watch(conversation_id, event.resume_token, as_seen(events, number))
        for number, event in enumerate(events)
    ]


def knows_all(transcript: Transcript, history: list[resources.Message]) -> bool:
    named = transcript.conversation is not None and transcript.conversation.title == TITLE
    return named and all(
        message.id in transcript.messages and transcript.messages[message.id].state == message.state
        for message in history
    )


async def all_is_told(watches: list[Stream], history: list[resources.Message]) -> None:
    """Reads all watches until each was told the rest, and checks that it was told just that."""
    for watch in watches:
        transcript = watch.transcript
        async with asyncio.timeout(60):
            while not knows_all(transcript, history):
                await watch.next()
            await watch.until("heartbeat")
        watch.cancel()
        for message in history:
            assert transcript.messages[message.id] == message
            if message.role == resources.Message.ROLE_ASSISTANT:
                # Before the token and after it, each piece came once; or all of it at the end.
                joined = transcript.joined.get((message.id, message.attempt), "")
                assert joined in ("", message.content)


@ALSO_BY_HTTP
async def test_the_token_of_any_event_gets_exactly_the_rest(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(heartbeat_interval=0.3)
    alice = alice.at(colloquy)
    conversation = await alice.create()
    watch = alice.watch(conversation.id)
    await watch.until("conversation")
    held = await hold(colloquy, alice, conversation.id, "First")
    await text_of(watch, held.id, HALF)

    begun = [
        *await goes_on(alice, conversation.id, held.stream.events),
        *await goes_on(alice, conversation.id, watch.events),
    ]
    for stream in begun[::2]:  # some are followed all the time, some come after the end
        await text_of(stream, held.id, HALF)
    held.gate.set()
    await held.stream.rest()
    second = alice.send(conversation.id, "Second")
    await second.rest()
    await watch.until(lambda e: e.conversation.title == TITLE)
    last = second.events[-1].message.id
    told = watch.transcript.messages.get(last)  # the title may come before or after it
    if told is None or told.state != COMPLETED:
        await watch.final(last)
    history = await alice.history(conversation.id)
    assert len(history) == 4
    await all_is_told(begun, history)

    sent = held.stream.events
    seen = watch.events
    watch.cancel()
    await all_is_told(await goes_on(alice, conversation.id, sent), history)
    await all_is_told(await goes_on(alice, conversation.id, seen), history)

    await colloquy.restart(heartbeat_interval=0.1)
    alice = alice.at(colloquy)
    await all_is_told(await goes_on(alice, conversation.id, sent), history)
    await all_is_told(await goes_on(alice, conversation.id, seen), history)


@ALSO_BY_HTTP
async def test_watchers_who_join_at_different_times_end_with_the_same_text(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Watched")
    early = alice.watch(conversation.id)
    await early.until("conversation")
    held = await hold(colloquy, alice, conversation.id)
    middle = [alice.watch(conversation.id), alice.on(colloquy.channel).watch(conversation.id)]
    for watch in middle:
        await text_of(watch, held.id, HALF)
    held.gate.set()
    late = alice.watch(conversation.id, held.stream.events[0].resume_token)
    final = await held.stream.reply()
    for watch in (early, *middle, late):
        assert await watch.final(held.id) == final
        assert watch.transcript.messages[held.id].content == final.content
        watch.cancel()
    assert early.transcript.joined[held.id, 1] == final.content


async def test_without_a_token_a_watch_begins_with_what_is_not_finished(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Watched")
    await alice.send(conversation.id, "Before").rest()
    held = await hold(colloquy, alice, conversation.id, "Live")
    waiting = alice.send(conversation.id, "Waiting")
    queued = (await waiting.accepted()).reply

    watch = alice.watch(conversation.id)
    told = [await watch.next() for _ in range(3)]
    assert kinds(watch) == ["conversation", "message", "message"]
    read = await alice.conversation(conversation.id)
    assert read.replying
    read.ClearField("replying")  # here the messages say it
    assert told[0].conversation == read
    assert (told[1].message.id, told[1].message.state) == (held.id, GENERATING)
    assert (told[2].message.id, told[2].message.state) == (queued.id, QUEUED)
    text = await text_of(watch, held.id, HALF)
    assert text == held.stream.transcript.messages[held.id].content

    held.gate.set()
    assert (await watch.final(held.id)).state == COMPLETED
    final = await watch.final(queued.id)
    assert final == await waiting.reply()
    assert watch.transcript.messages[queued.id].content == final.content
    watch.cancel()


async def test_reads_give_tokens_that_go_on_where_they_ended(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Read")
    await alice.send(conversation.id, "Before").rest()
    held = await hold(colloquy, alice, conversation.id, "Live")
    got = await alice.call(
        "GetConversation", api.GetConversationRequest(conversation_id=conversation.id)
    )
    listed = await alice.call(
        "ListMessages", api.ListMessagesRequest(conversation_id=conversation.id)
    )
    transcript = Transcript({message.id: message for message in listed.messages})
    shown = transcript.messages[held.id].content
    assert held.stream.transcript.messages[held.id].content.startswith(shown)
    watches = [
        alice.watch(conversation.id, got.resume_token),
        alice.watch(conversation.id, listed.resume_token, transcript),
    ]
    held.gate.set()
    final = await held.stream.reply()
    for watch in watches:
        assert await watch.final(held.id) == final
        assert watch.transcript.messages[held.id] == final
        watch.cancel()
    assert shown + transcript.joined.get((held.id, 1), "") == final.content

    for method, request in (
        ("GetConversation", api.GetConversationRequest(conversation_id=conversation.id)),
        ("ListMessages", api.ListMessagesRequest(conversation_id=conversation.id)),
    ):
        token = (await alice.call(method, request)).resume_token
        watch = alice.watch(conversation.id, token)
        said = alice.send(conversation.id, "After")
        await said.rest()
        first = await watch.next()
        assert first.message == said.events[0].accepted.message, "nothing that was shown before"
        watch.cancel()


async def test_a_sender_who_waits_in_line_hears_that_the_server_is_there(
    colloquy: Colloquy, alice: Caller
) -> None:
    """What the reply ahead says is for others, and no reason to be silent to this one."""
    await colloquy.restart(heartbeat_interval=0.1)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Line")
    colloquy.provider.script(Answer(tokens=100, rate=100), Answer(tokens=1))
    first = alice.send(conversation.id)
    await first.until("delta")
    second = alice.send(conversation.id)
    await second.reply()
    assert kinds(second).count("heartbeat") >= 3
    await first.reply()
    assert len(kinds(first)) > 10


async def test_a_quiet_stream_beats(colloquy: Colloquy, alice: Caller) -> None:
    await colloquy.restart(heartbeat_interval=0.05)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Quiet")
    watch = alice.watch(conversation.id)
    for _ in range(3):
        await watch.next()
    assert kinds(watch) == ["conversation", "heartbeat", "heartbeat"]
    held = await hold(colloquy, alice, conversation.id)
    await held.stream.until("heartbeat")
    held.gate.set()
    assert (await held.stream.reply()).state == COMPLETED
    again = alice.watch(conversation.id, watch.events[-1].resume_token)
    assert (await again.final(held.id)).state == COMPLETED
    watch.cancel()
    again.cancel()


@ALSO_BY_HTTP
async def test_a_deleted_conversation_ends_its_watches_well(
    colloquy: Colloquy, alice: Caller
) -> None:
    conversation = await alice.create(title="Gone")
    watches = [alice.watch(conversation.id), alice.on(colloquy.channel).watch(conversation.id)]
    for watch in watches:
        await watch.until("conversation")
    delete = api.DeleteConversationRequest(conversation_id=conversation.id)
    await alice.call("DeleteConversation", delete)
    for watch in watches:
        await watch.rest()
        assert kinds(watch)[-1] == "deleted"
        assert await watch.call.code() == grpc.StatusCode.OK
        refusal = await refused(alice.watch(conversation.id, watch.events[-1].resume_token))
        assert refusal.reason == "CONVERSATION_NOT_FOUND"
    refusal = await refused(alice.call("DeleteConversation", delete))
    assert refusal.reason == "CONVERSATION_NOT_FOUND"


async def test_watchers_are_told_what_people_change(colloquy: Colloquy, alice: Caller) -> None:
    conversation = await alice.create(title="Old")
    reply = await alice.send(conversation.id).reply()
    watch = alice.watch(conversation.id)
    await watch.until("conversation")
    near = alice.on(colloquy.channel)
    changed = await near.call(
        "UpdateConversation",
        api.UpdateConversationRequest(
            conversation=resources.Conversation(
                id=conversation.id, title="New", model="other-model", system_prompt="ignored"
            ),
            update_mask=FieldMask(paths=["title", "model"]),
        ),
    )
    assert (changed.conversation.title, changed.conversation.model) == ("New", "other-model")
    assert changed.conversation.system_prompt == ""
    changed.conversation.ClearField("unread_count")  # a watch is told what is the same for all
    assert (await watch.next()).conversation == changed.conversation
    rate = api.RateReplyRequest(message_id=reply.id, rating=resources.RATING_GOOD, comment="Yes")
    rated = (await near.call("RateReply", rate)).message
    assert (rated.rating, rated.rating_comment) == (resources.RATING_GOOD, "Yes")
    assert (await watch.next()).message == rated == await alice.message(reply.id)
    cleared = (await near.call("RateReply", api.RateReplyRequest(message_id=reply.id))).message
    assert (cleared.rating, cleared.rating_comment) == (resources.RATING_UNSPECIFIED, "")
    assert (await watch.next()).message == cleared
    watch.cancel()


@ANY
async def test_a_token_beyond_what_was_saved_waits_for_the_new_attempt(
    colloquy: Colloquy, alice: Caller
) -> None:
    """The watcher saw more than the killed server had stored: it gets no gap and no repeat."""
    await colloquy.stop()
    process = ServerProcess(colloquy, LEASE_TTL="3", HEARTBEAT_INTERVAL="0.2")
    alice = alice.on(await process.start())
    conversation = await alice.create(title="Killed")
    gate, again = asyncio.Event(), asyncio.Event()
    colloquy.provider.script(
        Answer(tokens=60, gate_after=50, gate=gate), Answer(tokens=20, gate_after=0, gate=again)
    )
    stream = alice.send(conversation.id)
    reply = (await stream.accepted()).reply
    await text_of(stream, reply.id, 50)
    tokens = [event.resume_token for event in stream.events]
    seen = stream.events
    await process.end(signal.SIGKILL)

    alice = alice.on(await process.start())
    await colloquy.provider.wait_for_requests(2)
    watches = [
        alice.watch(conversation.id, token, as_seen(seen, number))
        for number, token in enumerate(tokens)
    ]
    ahead = watches[-1]
    await ahead.until("heartbeat")
    assert "delta" not in kinds(ahead)
    assert len(ahead.transcript.messages[reply.id].content.split()) == 50
    again.set()
    for watch in watches:
        final = await watch.final(reply.id)
        assert (final.state, final.attempt) == (COMPLETED, 2)
        assert watch.transcript.joined[reply.id, 2] == final.content
        assert final.content == colloquy.provider.reply_requests[1].text
        watch.cancel()
    await process.end(signal.SIGTERM)
    await colloquy.start()


async def test_a_watcher_who_reads_nothing_takes_one_large_delta_and_delays_nobody(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(heartbeat_interval=0.5)
    alice = alice.at(colloquy)
    conversation = await alice.create(title="Slow")
    pieces = 400
    colloquy.provider.script(Answer(pieces=["x" * 500] * pieces, rate=400))
    slow_channels = [
        grpc.aio.insecure_channel(
            f"127.0.0.1:{app.port}",
            options=[("grpc.http2.lookahead_bytes", 1_024), ("grpc.http2.bdp_probe", 0)],
        )
        for app in colloquy.apps
    ]
    slow = [alice.on(channel).watch(conversation.id) for channel in slow_channels]
    for watch in slow:
        await watch.until("conversation")
    final = await alice.send(conversation.id).reply()
    assert len(final.content) == 500 * pieces
    for watch in slow:
        assert await watch.final(final.id) == final
        deltas = [len(event.delta.text) for event in watch.events if event.HasField("delta")]
        assert sum(deltas) == 500 * pieces
        assert max(deltas) > 50_000, deltas
        assert len(deltas) < pieces / 4
        watch.cancel()
    for channel in slow_channels:
        await channel.close()


@ALSO_BY_HTTP
async def test_a_revoked_key_ends_its_streams_and_not_the_reply(
    colloquy: Colloquy, alice: Caller
) -> None:
    await colloquy.restart(key_check_interval=0.1)
    alice = alice.at(colloquy)
    admin = colloquy.admin
    made = await admin.admin.CreateApiKey(
        admin_api.CreateApiKeyRequest(
            account_id=alice.account_id, name="brief", role=admin_api.ApiKey.ROLE_SERVICE
        ),
        metadata=admin.metadata,
    )
    brief = Caller(colloquy.channel, made.secret, alice.account_id, colloquy.far)
    conversation = await brief.create(title="Revoked")
    held = await hold(colloquy, brief, conversation.id)
    watch, other = brief.watch(conversation.id), alice.watch(conversation.id)
    await text_of(watch, held.id, HALF)
    await text_of(other, held.id, HALF)
    await admin.admin.RevokeApiKey(
        admin_api.RevokeApiKeyRequest(api_key_id=made.api_key.id), metadata=admin.metadata
    )
    for ended in (watch, held.stream, brief.create()):
        async with asyncio.timeout(60):
            refusal = await refused(ended)
        assert (refusal.status, refusal.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    held.gate.set()
    final = await other.final(held.id)
    assert (final.state, len(final.content.split())) == (COMPLETED, 2 * HALF)
    # Whoever was cut off goes on with a good key.
    again = alice.watch(conversation.id, watch.events[-1].resume_token, watch.transcript)
    assert await again.final(held.id) == final
    again.cancel()
    other.cancel()


@ALONE
async def test_an_expired_key_ends_its_streams(colloquy: Colloquy, alice: Caller) -> None:
    await colloquy.restart(key_check_interval=0.1)
    alice = alice.at(colloquy)
    expires = Timestamp()
    expires.FromDatetime(datetime.now(UTC) + timedelta(seconds=1))
    brief = await colloquy.key(alice.account_id, expire_time=expires)
    conversation = await alice.create(title="Expired")
    watch, other = brief.watch(conversation.id), alice.watch(conversation.id)
    await other.until("conversation")
    async with asyncio.timeout(60):
        refusal = await refused(watch)
    assert refusal.status == "UNAUTHENTICATED"
    assert kinds(watch) == ["conversation"]
    held = await hold(colloquy, alice, conversation.id)
    await text_of(other, held.id, HALF)
    held.gate.set()
    other.cancel()
