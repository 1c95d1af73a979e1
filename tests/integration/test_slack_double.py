"""The Slack double's Web API, asked by Slack's own client: what it takes and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import ManualClock, ScaledClock, SlackDouble, Upload, shown


@pytest.fixture
async def slack() -> AsyncIterator[SlackDouble]:
    async with SlackDouble(clock=ManualClock()) as double:
        yield double


@pytest.fixture
def client(slack: SlackDouble) -> AsyncWebClient:
    return AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)


async def refusal(call: Any) -> Any:
    """The error of a call that has to fail."""
    with pytest.raises(SlackApiError) as caught:
        await call
    return caught.value.response


async def error(call: Any) -> str:
    return str((await refusal(call))["error"])


def markdown(text: str) -> list[dict[str, Any]]:
    return [{"type": "markdown", "text": text}]


def clock_of(slack: SlackDouble) -> ManualClock:
    assert isinstance(slack.clock, ManualClock)
    return slack.clock


# -- tokens, scopes, places ---------------------------------------------------------------------


async def test_a_token_says_which_workspace_and_bot(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    answer = await client.auth_test()

    assert answer["team_id"] == slack.workspace.id
    assert answer["user_id"] == slack.workspace.bot.id
    assert "chat:write" in answer.headers["X-OAuth-Scopes"]


async def test_tokens_that_are_wrong(slack: SlackDouble, client: AsyncWebClient) -> None:
    def with_token(token: str | None) -> AsyncWebClient:
        return AsyncWebClient(token=token, base_url=slack.api_url)

    nonsense = "xoxb-0-nonsense"  # pragma: allowlist secret
    assert await error(with_token(nonsense).auth_test()) == "invalid_auth"
    assert await error(with_token(None).auth_test()) == "not_authed"
    assert await error(with_token(slack.app_token).auth_test()) == "not_allowed_token_type"
    refused = with_token(None).apps_connections_open(app_token=slack.bot_token)
    assert await error(refused) == "not_allowed_token_type"
    await client.auth_revoke()
    assert await error(client.auth_test()) == "account_inactive"


async def test_a_scope_that_is_missing_is_named(slack: SlackDouble, client: AsyncWebClient) -> None:
    slack.workspace.scopes.discard("chat:write")
    channel = slack.channel("general")

    answer = await refusal(client.chat_postMessage(channel=channel.id, text="hi"))

    assert answer["error"] == "missing_scope"
    assert answer["needed"] == "chat:write"
    assert "files:read" in answer["provided"]


async def test_places_where_the_bot_is_not(slack: SlackDouble, client: AsyncWebClient) -> None:
    public = slack.channel("public", bot=False)
    private = slack.channel("private", kind="group", bot=False)

    assert await error(client.chat_postMessage(channel=public.id, text="hi")) == "not_in_channel"
    refused = client.chat_postMessage(channel=private.id, text="hi")
    assert await error(refused) == "channel_not_found"
    assert await error(client.chat_postMessage(channel="C404", text="hi")) == "channel_not_found"
    assert await error(client.api_call("chat.dance")) == "unknown_method"


async def test_workspaces_are_apart(slack: SlackDouble, client: AsyncWebClient) -> None:
    globex = slack.add_workspace("Globex")
    theirs = slack.channel("general", workspace=globex)
    bob = slack.person("Bob Jones", workspace=globex)

    assert await error(client.users_info(user=bob.id)) == "user_not_found"
    assert await error(client.chat_postMessage(channel=theirs.id, text="?")) == "channel_not_found"
    other = AsyncWebClient(token=globex.bot_token, base_url=slack.api_url)
    assert (await other.chat_postMessage(channel=theirs.id, text="hi"))["ok"]


async def test_who_people_are(slack: SlackDouble, client: AsyncWebClient) -> None:
    alice = slack.person("Alice Smith")

    user = (await client.users_info(user=alice.id))["user"]
    opened = await client.conversations_open(users=[alice.id])

    assert user["profile"]["display_name"] == "Alice"
    assert user["profile"]["image_72"].startswith("https://")
    assert opened["channel"]["id"] == alice.direct.id
    posted = await client.chat_postMessage(channel=alice.id, text="hello")
    assert posted["channel"] == alice.direct.id


# -- posting and editing ------------------------------------------------------------------------


async def test_a_post_carries_metadata_that_is_read_back_when_asked_for(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channel = slack.channel("general")
    asked = slack.person("Alice Smith").post(channel, "hello?")
    metadata = {"event_type": "reply", "event_payload": {"id": "r1"}}

    await client.chat_postMessage(
        channel=channel.id, thread_ts=asked.ts, text="yes", metadata=metadata
    )

    async def read(**more: Any) -> Any:
        return (await client.conversations_replies(channel=channel.id, ts=asked.ts, **more))[
            "messages"
        ]

    root, reply = await read(include_all_metadata=True)
    assert root["reply_count"] == 1
    assert reply["metadata"] == metadata
    assert reply["parent_user_id"] == root["user"]
    assert "metadata" not in (await read())[1]
    bad = client.chat_postMessage(channel=channel.id, text="x", metadata={"event_type": "a"})
    assert await error(bad) == "invalid_metadata_schema"


async def test_texts_that_are_too_long(slack: SlackDouble, client: AsyncWebClient) -> None:
    channel = slack.channel("general").id
    posted = await client.chat_postMessage(channel=channel, text="x" * 4000)
    ts = posted["ts"]

    assert await error(client.chat_postMessage(channel=channel, text="x" * 4001)) == "msg_too_long"
    assert await error(client.chat_update(channel=channel, ts=ts, text="x" * 4001)) == (
        "msg_too_long"
    )
    await client.chat_update(channel=channel, ts=ts, markdown_text="x" * 12_000)
    too_long = client.chat_update(channel=channel, ts=ts, markdown_text="x" * 12_001)
    assert await error(too_long) == "msg_too_long"
    both = client.chat_update(channel=channel, ts=ts, markdown_text="x", text="y")
    assert await error(both) == "markdown_text_conflict"
    nothing = client.api_call("chat.update", json={"channel": channel, "ts": ts})
    assert await error(nothing) == "no_text"


SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (markdown("x" * 12_000), None),
        (markdown("x" * 12_001), "invalid_blocks"),
        (markdown("x" * 6001) * 2, "msg_blocks_too_long"),
        ([SECTION], "invalid_blocks"),
        ([{"type": "divider"}] * 50, None),
        ([{"type": "divider"}] * 51, "invalid_blocks"),
        (markdown("# a\n\nb\n\n" * 25), None),
        (markdown("# a\n\nb\n\n" * 26), "msg_blocks_too_many"),
        (markdown("a\n\nb\n\n- c\n\n> d\n\n```\ne\n```\n\n" * 30), None),
        (markdown("|a|\n|-|\n|b|\n\n---\n\n" * 26), "msg_blocks_too_many"),
        ([{"type": "marquee"}], "invalid_blocks"),
        ([{"type": "actions", "elements": []}], "invalid_blocks"),
    ],
)
async def test_blocks_that_are_too_much(
    slack: SlackDouble, client: AsyncWebClient, blocks: list[dict[str, Any]], expected: str | None
) -> None:
    channel = slack.channel("general").id
    blocks = [dict(block) for block in blocks]

    call = client.chat_postMessage(channel=channel, text="…", blocks=blocks)

    if expected is None:
        assert (await call)["ok"]
    else:
        answer = await refusal(call)
        assert answer["error"] == expected
        if expected == "invalid_blocks":
            assert "json-pointer:/blocks" in answer["response_metadata"]["messages"][0]


async def test_edits_that_are_refused(slack: SlackDouble, client: AsyncWebClient) -> None:
    channel = slack.channel("general")
    alices = slack.person("Alice Smith").post(channel, "mine")
    mine = (await client.chat_postMessage(channel=channel.id, text="old"))["ts"]

    def update(ts: str) -> Any:
        return client.chat_update(channel=channel.id, ts=ts, text="new")

    assert await error(update(alices.ts)) == "cant_update_message"
    assert await error(update("1.000001")) == "message_not_found"
    slack.workspace.edit_window = 60
    await clock_of(slack).advance(61)
    assert await error(update(mine)) == "edit_window_closed"
    slack.workspace.edit_window = None
    await client.chat_delete(channel=channel.id, ts=mine)
    assert await error(update(mine)) == "message_not_found"


async def test_an_edit_with_text_alone_takes_the_blocks_away_and_is_marked(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channel = slack.channel("general")
    ts = (await client.chat_postMessage(channel=channel.id, text="a", blocks=markdown("a")))["ts"]
    message = channel.messages[ts]

    await client.chat_update(channel=channel.id, ts=ts, text="b", blocks=markdown("**b**"))
    assert message.edited is None
    await client.chat_update(channel=channel.id, ts=ts, text="c")

    assert message.blocks == []
    assert message.edited is not None
    assert [version.shown for version in message.versions] == ["a", "**b**", "c"]


async def test_an_edit_of_the_metadata_leaves_the_words(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channel = slack.channel("general")
    ts = (await client.chat_postMessage(channel=channel.id, markdown_text="**a**"))["ts"]
    metadata = {"event_type": "reply", "event_payload": {"id": "r1"}}

    body = {"channel": channel.id, "ts": ts, "metadata": metadata}
    await client.api_call("chat.update", json=body)

    message = channel.messages[ts]
    assert (shown(message), message.metadata, message.edited) == ("**a**", metadata, None)


async def test_a_reply_to_a_deleted_message_leaves_the_thread(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channel = slack.channel("general")
    alice = slack.person("Alice Smith")
    asked = alice.post(channel, "hello?")
    alice.delete(asked)

    answer = await client.chat_postMessage(channel=channel.id, thread_ts=asked.ts, text="yes")

    assert "thread_ts" not in answer["message"]


async def test_mentions_of_the_bot_are_written_down(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channel = slack.channel("general").id
    alice = slack.person("Alice Smith")

    await client.chat_postMessage(channel=channel, text="@channel <!chan> &lt;!here&gt;")
    assert slack.notified == []
    await client.chat_postMessage(channel=channel, text="hey", blocks=markdown("<!here> and"))
    section = {"type": "section", "text": {"type": "mrkdwn", "text": f"`<@{alice.id}>`"}}
    await client.chat_postMessage(channel=channel, text="<!channel|x>", blocks=[section])

    found = [(one.mention, one.in_code) for one in slack.notified]
    assert found == [("!here", False), ("!channel", False), (f"@{alice.id}", True)]


# -- limits -------------------------------------------------------------------------------------


async def test_edits_share_fifty_a_minute_in_a_workspace(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channels = [slack.channel(f"c{n}").id for n in range(5)]
    posts = [(await client.chat_postMessage(channel=c, text="…"))["ts"] for c in channels]

    for n in range(50):
        await client.chat_update(channel=channels[n % 5], ts=posts[n % 5], text=f"{n}")
    answer = await refusal(client.chat_update(channel=channels[0], ts=posts[0], text="last"))

    assert answer.status_code == 429
    assert answer["error"] == "ratelimited"
    assert answer.headers["Retry-After"] == "60"
    assert slack.rate_statistics().final_edits_lost == [(channels[0], posts[0])]
    await clock_of(slack).advance(60)
    await client.chat_update(channel=channels[0], ts=posts[0], text="last")
    statistics = slack.rate_statistics()
    assert statistics.final_edits_lost == []
    assert statistics.final_edits_refused == 1
    assert statistics.refused == {"chat.update": 1}
    assert slack.limits.busiest_minute("chat.update", slack.workspace.id) == 50


async def test_time_can_be_made_to_fly() -> None:
    async with SlackDouble(clock=ScaledClock(600)) as slack:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
        channel = slack.channel("general").id
        slack.limits.posts_per_minute = 1
        await client.chat_postMessage(channel=channel, text="x")
        assert await error(client.chat_postMessage(channel=channel, text="x")) == "ratelimited"
        await slack.clock.sleep(60)
        await client.chat_postMessage(channel=channel, text="x")


async def test_posts_are_one_a_second_a_channel_with_a_small_burst(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    one, other = slack.channel("one").id, slack.channel("other").id
    for _ in range(3):
        await client.chat_postMessage(channel=one, text="x")

    answer = await refusal(client.chat_postMessage(channel=one, text="x"))

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    await client.chat_postMessage(channel=other, text="x")
    await clock_of(slack).advance(1)
    await client.chat_postMessage(channel=one, text="x")
    assert await error(client.chat_postMessage(channel=one, text="x")) == "ratelimited"


async def test_a_workspace_takes_so_many_posts_a_minute(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    slack.limits.posts_per_minute = 5
    for n in range(5):
        await client.chat_postMessage(channel=slack.channel(f"c{n}").id, text="x")

    assert await error(client.chat_postMessage(channel=slack.channel("c9").id, text="x")) == (
        "ratelimited"
    )


async def test_history_of_new_distributed_apps_is_nearly_closed(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    slack.limits.restricted_history = True
    channel = slack.channel("general")
    alice = slack.person("Alice Smith")
    for n in range(20):
        alice.post(channel, str(n))

    answer = await client.conversations_history(channel=channel.id)

    assert len(answer["messages"]) == 15
    assert answer["has_more"]
    assert await error(client.conversations_history(channel=channel.id)) == "ratelimited"


# -- streams ------------------------------------------------------------------------------------


async def start(slack: SlackDouble, client: AsyncWebClient, **more: Any) -> tuple[str, str]:
    channel = slack.channel("general")
    alice = slack.person("Alice Smith")
    asked = alice.post(channel, "hello?")
    answer = await client.chat_startStream(
        channel=channel.id,
        thread_ts=asked.ts,
        recipient_team_id=slack.workspace.id,
        recipient_user_id=alice.id,
        **more,
    )
    return channel.id, answer["ts"]


async def test_a_stream_by_the_helper(slack: SlackDouble, client: AsyncWebClient) -> None:
    alice = slack.person("Alice Smith")
    asked = alice.dm("hello?")

    stream = await client.chat_stream(channel=alice.direct.id, thread_ts=asked.ts)
    await stream.append(markdown_text="x" * 300)
    message = alice.direct.messages[str(stream.ts)]
    assert slack.stream_state(message) == "in_progress"
    await stream.append(markdown_text="y")
    await stream.stop(markdown_text="z", blocks=[{"type": "divider"}])

    assert slack.thread(alice.direct, asked.ts) == "x" * 300 + "yz"
    assert slack.stream_state(message) == "completed"


async def test_what_streams_refuse(slack: SlackDouble, client: AsyncWebClient) -> None:
    channel, ts = await start(slack, client, markdown_text="a")

    def append(**more: Any) -> Any:
        return client.chat_appendStream(channel=channel, ts=ts, **more)

    edit = client.chat_update(channel=channel, ts=ts, text="b")
    assert await error(edit) == "streaming_state_conflict"
    assert await error(client.chat_delete(channel=channel, ts=ts)) == "cant_delete_message"
    chunks = [{"type": "markdown_text", "text": "b"}]
    assert await error(append(chunks=chunks)) == "streaming_mode_mismatch"
    assert await error(append()) == "markdown_text_or_chunks_required"
    assert await error(append(markdown_text="x" * 12_001)) == "msg_too_long"
    assert await error(append(markdown_text="x" * 12_000)) == "msg_blocks_too_long"
    missing = client.chat_startStream(channel=channel, thread_ts=ts)
    assert await error(missing) == "missing_recipient_team_id"
    await client.chat_stopStream(channel=channel, ts=ts)
    assert await error(append(markdown_text="b")) == "message_not_in_streaming_state"


async def test_a_stream_ends_after_five_minutes_and_can_be_edited_then(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    channel, ts = await start(slack, client, markdown_text="a")
    await clock_of(slack).advance(299)
    await client.chat_appendStream(channel=channel, ts=ts, markdown_text="b")
    await clock_of(slack).advance(2)

    append = client.chat_appendStream(channel=channel, ts=ts, markdown_text="c")
    assert await error(append) == "message_not_in_streaming_state"
    stop = client.chat_stopStream(channel=channel, ts=ts)
    assert await error(stop) == "message_not_in_streaming_state"
    await client.chat_update(channel=channel, ts=ts, text="…", blocks=markdown("abc"))

    message = slack.workspace.channels[channel].messages[ts]
    assert [version.shown for version in message.versions] == ["a", "ab", "abc"]


async def test_the_native_stop_button(slack: SlackDouble, client: AsyncWebClient) -> None:
    channel, ts = await start(slack, client, markdown_text="a")
    place = slack.workspace.channels[channel]
    thread = place.messages[ts].thread
    session = await client.agents_sessions_setStatus(
        channel_id=channel, thread_ts=thread, status="processing"
    )
    assert session["agent_status"] == "processing"

    stopped = slack.person("Alice Smith").stop(place, thread)

    assert stopped is not None
    assert stopped.event["streaming_message_ts"] == [ts]
    append = client.chat_appendStream(channel=channel, ts=ts, markdown_text="b")
    assert await error(append) == "stopped_by_user"


async def test_streams_start_twenty_times_a_minute(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    for _ in range(20):
        await start(slack, client)

    with pytest.raises(SlackApiError, match="ratelimited"):
        await start(slack, client)


# -- files --------------------------------------------------------------------------------------


async def fetch(url: str, token: str | None) -> tuple[int, str, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.read()


async def test_a_shared_file_needs_the_token(slack: SlackDouble, client: AsyncWebClient) -> None:
    general = slack.channel("general")
    asked = slack.person("Alice Smith").post(
        general, "look", files=[Upload("a.pdf", b"%PDF-1.7"), Upload("b.png", b"png", connect=True)]
    )
    pdf, connected = asked.deliveries[0].event["files"]

    assert asked.deliveries[0].event["subtype"] == "file_share"
    assert pdf["mimetype"] == "application/pdf"
    url = pdf["url_private_download"]
    assert await fetch(url, slack.bot_token) == (200, "application/pdf", b"%PDF-1.7")
    assert (await fetch(url, None))[:2] == (200, "text/html")
    assert (await fetch(url, "xoxb-wrong"))[:2] == (200, "text/html")
    assert connected["file_access"] == "check_file_info"
    assert "url_private_download" not in connected
    whole = (await client.files_info(file=connected["id"]))["file"]
    assert (await fetch(whole["url_private_download"], slack.bot_token))[2] == b"png"
    slack.workspace.scopes.discard("files:read")
    assert (await fetch(url, slack.bot_token))[:2] == (200, "text/html")


async def test_an_upload_lands_in_its_thread(slack: SlackDouble, client: AsyncWebClient) -> None:
    general = slack.channel("general")
    asked = slack.person("Alice Smith").post(general, "all of it")

    await client.files_upload_v2(
        channel=general.id, thread_ts=asked.ts, filename="answer.md", content="# Answer"
    )

    # Slack answers before it is there.
    assert not slack.thread_files(general, asked.ts)
    (file,) = await slack.wait_for(lambda: slack.thread_files(general, asked.ts))
    assert (file.name, file.content) == ("answer.md", b"# Answer")


# -- agents, views, reactions -------------------------------------------------------------------


async def test_a_status_goes_by_itself_and_by_a_post(
    slack: SlackDouble, client: AsyncWebClient
) -> None:
    alice = slack.person("Alice Smith")
    asked = alice.dm("hello?")

    async def think() -> None:
        await client.assistant_threads_setStatus(
            channel_id=alice.direct.id, thread_ts=asked.ts, status="is thinking…"
        )

    await think()
    assert slack.status(alice.direct, asked.ts) == "is thinking…"
    await clock_of(slack).advance(121)
    assert slack.status(alice.direct, asked.ts) is None
    await think()
    await client.chat_postMessage(channel=alice.direct.id, thread_ts=asked.ts, text="hi")
    assert slack.status(alice.direct, asked.ts) is None
    bad = client.assistant_threads_setStatus(
        channel_id=alice.direct.id, thread_ts="1.2", status="x"
    )
    assert await error(bad) == "invalid_thread_ts"


async def test_prompts_and_titles(slack: SlackDouble, client: AsyncWebClient) -> None:
    alice = slack.person("Alice Smith")
    prompt = {"title": "Plan", "message": "Plan my day"}

    await client.assistant_threads_setSuggestedPrompts(
        channel_id=alice.direct.id, prompts=[prompt] * 4
    )
    too_many = client.assistant_threads_setSuggestedPrompts(
        channel_id=alice.direct.id, prompts=[prompt] * 5
    )
    assert await error(too_many) == "invalid_arguments"
    asked = alice.dm("hello?")
    await client.assistant_threads_setTitle(
        channel_id=alice.direct.id, thread_ts=asked.ts, title="Hello"
    )
    assert slack.workspace.titles[(alice.direct.id, asked.ts)] == "Hello"


async def test_home_is_what_was_published_last(slack: SlackDouble, client: AsyncWebClient) -> None:
    alice = slack.person("Alice Smith")

    first = await client.views_publish(
        user_id=alice.id, view={"type": "home", "blocks": markdown("one")}
    )
    view = {"type": "home", "blocks": markdown("two")}
    await client.views_publish(user_id=alice.id, view=view, hash=first["view"]["hash"])

    assert alice.home is not None
    assert alice.home["blocks"][0]["text"] == "two"
    stale = client.views_publish(user_id=alice.id, view=view, hash=first["view"]["hash"])
    assert await error(stale) == "hash_conflict"


async def test_reactions(slack: SlackDouble, client: AsyncWebClient) -> None:
    general = slack.channel("general")
    asked = slack.person("Alice Smith").post(general, "hello?")
    place = {"channel": general.id, "timestamp": asked.ts, "name": "eyes"}

    await client.reactions_add(**place)
    assert await error(client.reactions_add(**place)) == "already_reacted"
    await client.reactions_remove(**place)
    assert await error(client.reactions_remove(**place)) == "no_reaction"


# -- faults -------------------------------------------------------------------------------------


async def test_calls_fail_on_demand(slack: SlackDouble, client: AsyncWebClient) -> None:
    channel = slack.channel("general").id
    slack.fail("chat.postMessage", "fatal_error")
    slack.fail("chat.postMessage", retry_after=7)
    slack.fail("chat.postMessage", status=503)

    def post() -> Any:
        return client.chat_postMessage(channel=channel, text="x")

    assert await error(post()) == "fatal_error"
    assert (await refusal(post())).headers["Retry-After"] == "7"
    with pytest.raises(SlackApiError):
        await post()
    await post()
    assert [call.ok for call in slack.calls("chat.postMessage")] == [False] * 3 + [True]


async def test_a_post_whose_answer_is_lost_was_made(slack: SlackDouble) -> None:
    general = slack.channel("general")
    slack.fail("chat.postMessage", drop="after")
    client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url, retry_handlers=[])

    with pytest.raises(aiohttp.ClientError):
        await client.chat_postMessage(channel=general.id, text="x")

    assert [message.text for message in slack.bot_messages(general)] == ["x"]


async def test_a_gate_holds_a_call(slack: SlackDouble, client: AsyncWebClient) -> None:
    general = slack.channel("general")
    gate = slack.hold("chat.postMessage")

    posting = asyncio.ensure_future(client.chat_postMessage(channel=general.id, text="x"))
    await gate.reached.wait()

    assert not posting.done()
    assert len(slack.bot_messages(general)) == 1
    gate.open()
    assert (await posting)["ok"]


@pytest.mark.parametrize("method", ["conversations.replies", "users.info", "files.info"])
async def test_methods_that_read_take_no_json(
    slack: SlackDouble, client: AsyncWebClient, method: str
) -> None:
    general = slack.channel("general")
    asked = slack.person("Alice Smith").post(general, "Hello")
    given = {"channel": general.id, "ts": asked.ts, "user": asked.message.user, "file": "F1"}
    with pytest.raises(SlackApiError, match="invalid_arguments"):
        await client.api_call(method, json=given)
