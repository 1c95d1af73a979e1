"""The Slack double's events, heard by Slack's own libraries over Socket Mode and over HTTP."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.app.async_server import AsyncSlackAppServer
from slack_bolt.async_app import AsyncApp
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from yarl import URL

from tests.fakes.slack import Channel, ManualClock, Person, Posted, SlackDouble

BUTTONS: list[dict[str, Any]] = [
    {"type": "markdown", "text": "Hello"},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "stop",
                "value": "r1",
                "text": {"type": "plain_text", "text": "Stop"},
            }
        ],
    },
    {
        "type": "context_actions",
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": "rate",
                "positive_button": {"text": {"type": "plain_text", "text": "Good"}, "value": "1"},
                "negative_button": {"text": {"type": "plain_text", "text": "Bad"}, "value": "0"},
            }
        ],
    },
]


@pytest.fixture
async def slack() -> AsyncIterator[SlackDouble]:
    async with SlackDouble(clock=ManualClock()) as double:
        yield double


@pytest.fixture
def general(slack: SlackDouble) -> Channel:
    return slack.channel("general")


@pytest.fixture
def alice(slack: SlackDouble) -> Person:
    return slack.person("Alice Smith")


class Listener:
    """A Socket Mode client that acknowledges or not, as a test says."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack
        web_client = AsyncWebClient(base_url=slack.api_url)
        # Any: some of its methods have no types.
        self.client: Any = SocketModeClient(
            slack.app_token, web_client=web_client, ping_interval=0.05
        )
        self.requests: list[Any] = []
        self.deaf = False
        self.client.socket_mode_request_listeners.append(self._hear)

    async def _hear(self, client: Any, request: Any) -> None:
        self.requests.append(request)
        self.slack.recorder.changed()
        if not self.deaf:
            await client.send_socket_mode_response(SocketModeResponse(request.envelope_id))

    def has(self, count: int) -> bool:
        return len(self.requests) == count

    @property
    def events(self) -> list[dict[str, Any]]:
        return [request.payload["event"] for request in self.requests]


@pytest.fixture
async def listener(slack: SlackDouble) -> AsyncIterator[Listener]:
    heard = Listener(slack)
    await heard.client.connect()
    await slack.wait_for(lambda: slack.socket.connections)
    yield heard
    await heard.client.close()


def attempted(posted: Posted, count: int) -> bool:
    return len(posted.deliveries[0].attempts) == count


async def advance(slack: SlackDouble, seconds: float) -> None:
    assert isinstance(slack.clock, ManualClock)
    await slack.clock.advance(seconds)


# -- what is said -------------------------------------------------------------------------------


async def test_a_mention_comes_twice_with_two_ids(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    asked = alice.post(general, "is a < b? see https://example.com", mention=True)
    await asked.settled()

    assert [event["type"] for event in listener.events] == ["message", "app_mention"]
    first, second = [request.payload for request in listener.requests]
    assert first["event_id"] != second["event_id"]
    assert first["event"]["ts"] == second["event"]["ts"] == asked.ts
    text = f"<@{slack.workspace.bot.id}> is a &lt; b? see <https://example.com>"
    assert first["event"]["text"] == text
    assert first["event"]["channel_type"] == "channel"
    assert first["authorizations"][0]["user_id"] == slack.workspace.bot.id


async def test_a_direct_message_comes_once(listener: Listener, alice: Person) -> None:
    asked = alice.dm("hello @Colloquy")
    await asked.settled()

    (event,) = listener.events
    assert (event["type"], event["channel_type"]) == ("message", "im")


async def test_an_edit_mentions_again_and_a_deletion_says_what_was(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    asked = alice.post(general, "one", mention=True)
    await asked.settled()
    for delivery in alice.edit(asked, "@Colloquy two"):
        await delivery.settled()
    deleted = alice.delete(asked)
    assert deleted is not None
    await deleted.settled()

    changed, mention, gone = listener.events[2:]
    assert changed["subtype"] == "message_changed"
    assert changed["previous_message"]["text"].endswith("one")
    assert changed["message"]["text"].endswith("two")
    assert changed["message"]["edited"]["user"] == alice.id
    assert (mention["type"], mention["ts"]) == ("app_mention", asked.ts)
    assert (gone["subtype"], gone["deleted_ts"]) == ("message_deleted", asked.ts)


async def test_replies_and_previews_change_a_message_without_changing_its_text(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    asked = alice.post(general, "one")
    reply = slack.person("Bob Jones").post(general, "two", thread=asked)
    unfurled = slack.unfurl(asked.message)
    assert unfurled is not None
    await reply.settled()
    await unfurled.settled()

    _, second, parent, preview = listener.events
    assert second["thread_ts"] == asked.ts
    assert second["parent_user_id"] == alice.id
    for event in (parent, preview):
        assert event["subtype"] == "message_changed"
        assert event["message"]["text"] == event["previous_message"]["text"]
    assert parent["message"]["reply_count"] == 1
    assert preview["message"]["attachments"]


async def test_the_root_of_a_thread_leaves_a_tombstone(
    listener: Listener, general: Channel, alice: Person
) -> None:
    asked = alice.post(general, "one")
    await alice.post(general, "two", thread=asked).settled()
    gone = alice.delete(asked)
    assert gone is not None
    await gone.settled()

    assert listener.events[-1]["subtype"] == "message_changed"
    assert listener.events[-1]["message"]["subtype"] == "tombstone"


async def test_the_bots_own_messages_come_back_and_other_bots_come_too(
    slack: SlackDouble, listener: Listener, general: Channel
) -> None:
    client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
    posted = await client.chat_postMessage(channel=general.id, text="a")
    await client.chat_update(channel=general.id, ts=posted["ts"], text="b")
    slack.other_bot_posts(general, "build failed")
    await slack.wait_for(lambda: len(listener.events) == 3)

    own, edited, other = listener.events
    assert (own["bot_id"], own["user"]) == (slack.workspace.bot_id, slack.workspace.bot.id)
    assert edited["message"]["bot_id"] == slack.workspace.bot_id
    assert other["subtype"] == "bot_message"


async def test_what_the_app_is_not_subscribed_to_does_not_come(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    slack.use_manifest(
        {
            "display_information": {"name": "Colloquy"},
            "oauth_config": {"scopes": {"bot": ["app_mentions:read"]}},
            "settings": {
                "event_subscriptions": {"bot_events": ["app_mention", "message.channels"]}
            },
        }
    )
    # message.channels needs channels:history, which was not granted.
    await alice.post(general, "hello", mention=True).settled()

    assert [event["type"] for event in listener.events] == ["app_mention"]
    assert alice.open_home() is None
    quiet = slack.channel("elsewhere", bot=False)
    assert alice.post(quiet, "hello", mention=True).deliveries == []


async def test_people_react_look_open_and_stop(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    asked = alice.post(general, "hello")
    alice.react(asked, "octagonal_sign")
    alice.open_home("messages")
    alice.look_at(general)
    with pytest.raises(LookupError):
        alice.stop(general, asked)
    client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
    await client.agents_sessions_setStatus(
        channel_id=general.id, thread_ts=asked.ts, status="processing"
    )
    alice.stop(general, asked)
    await slack.wait_for(lambda: len(listener.events) == 5)

    _, reaction, home, context, stop = listener.events
    assert reaction["item"] == {"type": "message", "channel": general.id, "ts": asked.ts}
    assert (home["tab"], home["channel"]) == ("messages", alice.direct.id)
    assert context["context"]["entities"][0]["value"] == general.id
    assert (stop["type"], stop["thread_ts"]) == ("agent_session_stopped", asked.ts)


# -- deliveries ---------------------------------------------------------------------------------


async def test_what_is_not_acknowledged_comes_again_at_once_and_after_one_and_five_minutes(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    listener.deaf = True
    asked = alice.post(general, "hello")
    began = slack.clock.time()
    for count, pause in enumerate((0, 60, 300, 0), start=1):
        await slack.wait_for(partial(listener.has, count))
        await advance(slack, 3)
        await slack.wait_for(partial(attempted, asked, count))
        await advance(slack, pause)
    await asked.settled()

    assert [request.retry_attempt for request in listener.requests] == [0, 1, 2, 3]
    assert {request.retry_reason for request in listener.requests[1:]} == {"http_timeout"}
    assert len({request.envelope_id for request in listener.requests}) == 4
    assert len({request.payload["event_id"] for request in listener.requests}) == 1
    (delivery,) = asked.deliveries
    assert [round(a.at - began) for a in delivery.attempts] == [0, 3, 66, 369]
    assert delivery.given_up


async def test_an_event_that_nobody_was_there_for_comes_when_somebody_is(
    slack: SlackDouble, general: Channel, alice: Person
) -> None:
    asked = alice.post(general, "hello")
    (delivery,) = asked.deliveries
    await slack.wait_for(lambda: len(delivery.attempts) == 2)
    assert not delivery.acked
    listener = Listener(slack)
    await listener.client.connect()
    await slack.wait_for(lambda: slack.socket.connections)

    slack.courier.retry_now()
    await asked.settled()

    assert delivery.acked
    assert listener.requests[0].retry_attempt == 2
    await listener.client.close()


async def test_events_come_several_times_and_in_any_order(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    slack.courier.hold()
    alice.post(general, "one")
    alice.post(general, "two")
    slack.courier.release(times=3, order=[1, 0])
    await slack.wait_for(lambda: len(listener.events) == 6)

    assert [event["text"] for event in listener.events] == ["two", "one"] * 3
    slack.courier.again(slack.courier.deliveries[0])
    await slack.wait_for(lambda: len(listener.events) == 7)
    assert listener.events[6]["text"] == "one"


async def test_connections_share_the_events_and_are_renewed(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    other = Listener(slack)
    await other.client.connect()
    await slack.wait_for(lambda: len(slack.socket.connections) == 2)
    for _ in range(4):
        await alice.post(general, "hello").settled()
    assert len(listener.requests) == len(other.requests) == 2

    before = list(slack.socket.connections)
    await slack.socket.disconnect()
    await slack.wait_for(
        lambda: (
            len(slack.socket.connections) == 2
            and not set(slack.socket.connections).intersection(before)
        )
    )
    await alice.post(general, "still there?").settled()
    assert slack.courier.deliveries[-1].acked
    await other.client.close()


async def test_an_address_of_socket_mode_works_once(slack: SlackDouble) -> None:
    client = AsyncWebClient(base_url=slack.api_url)
    url = (await client.apps_connections_open(app_token=slack.app_token))["url"]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url)


async def test_too_many_connections_are_sent_away(slack: SlackDouble) -> None:
    async with aiohttp.ClientSession() as session:
        sockets = [await session.ws_connect(slack.socket.new_url()) for _ in range(11)]
        first_words = [await socket.receive_json() for socket in sockets]
        assert [words["type"] for words in first_words] == ["hello"] * 10 + ["disconnect"]
        assert first_words[-1]["reason"] == "too_many_websockets"


async def test_too_many_events_are_not_sent_and_the_app_is_told(
    slack: SlackDouble, listener: Listener, general: Channel, alice: Person
) -> None:
    slack.courier.events_an_hour = 2
    for _ in range(4):
        alice.post(general, "hello")
    await slack.wait_for(lambda: len(listener.requests) == 3)

    types = [request.payload["type"] for request in listener.requests]
    assert sorted(types) == ["app_rate_limited", "event_callback", "event_callback"]
    await advance(slack, 3600)
    await alice.post(general, "hello").settled()
    assert len(listener.requests) == 4


# -- a Bolt app over Socket Mode ----------------------------------------------------------------


@pytest.fixture
async def bolt(slack: SlackDouble) -> AsyncIterator[AsyncApp]:
    app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url))
    handler: Any = AsyncSocketModeHandler(app, slack.app_token)
    handler.client.web_client = AsyncWebClient(base_url=slack.api_url)
    await handler.connect_async()
    yield app
    await handler.close_async()


async def test_clicks_thumbs_and_response_urls(
    slack: SlackDouble, bolt: AsyncApp, general: Channel, alice: Person
) -> None:
    bodies: list[dict[str, Any]] = []

    async def clicked(ack: Callable[[], Awaitable[None]], body: dict[str, Any]) -> None:
        bodies.append(body)
        await ack()

    for action in ("stop", "rate"):
        bolt.action(action)(clicked)
    asked = alice.post(general, "hello")
    posted = await bolt.client.chat_postMessage(
        channel=general.id, thread_ts=asked.ts, text="Hello", blocks=BUTTONS
    )
    message = general.messages[posted["ts"]]
    await alice.click(message, "Stop").settled()
    await alice.rate(message, good=False).settled()

    click, rating = bodies
    assert click["actions"][0]["value"] == "r1"
    assert click["container"]["thread_ts"] == asked.ts
    assert click["message"]["ts"] == message.ts
    assert rating["actions"][0] | {"action_ts": ""} == {
        "type": "feedback_buttons",
        "action_id": "rate",
        "block_id": message.blocks[2]["block_id"],
        "text": {"type": "plain_text", "text": "Bad"},
        "value": "0",
        "action_ts": "",
    }
    respond = AsyncWebhookClient(click["response_url"])
    await respond.send(text="for you", response_type="ephemeral")
    await respond.send(text="stopped", replace_original=True)
    assert [seen.text for seen in alice.sees(general)] == ["for you"]
    assert (message.text, message.blocks) == ("stopped", [])
    for _ in range(3):
        assert (await respond.send(text="again")).status_code == 200
    assert (await respond.send(text="again")).body == "used_url"


async def test_a_command_and_its_answer(
    slack: SlackDouble, bolt: AsyncApp, general: Channel, alice: Person
) -> None:
    @bolt.command("/colloquy")
    async def command(ack: Any, body: dict[str, Any], respond: Any) -> None:
        await ack(f"{body['text']} in {body['channel_id']}")
        await respond("and more")

    await alice.command("/colloquy", "model gpt", general).settled()
    await slack.wait_for(lambda: len(alice.sees(general)) == 2)

    said = {message.text for message in alice.sees(general)}
    assert said == {f"model gpt in {general.id}", "and more"}


async def test_home_with_a_select_and_a_modal(
    slack: SlackDouble, bolt: AsyncApp, alice: Person
) -> None:
    option = {"text": {"type": "plain_text", "text": "GPT"}, "value": "gpt"}
    select = {"type": "static_select", "action_id": "model", "options": [option]}
    home = {
        "type": "home",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": "Model"}, "accessory": select}
        ],
    }
    chosen: list[str] = []

    @bolt.event("app_home_opened")
    async def opened(event: dict[str, Any], client: AsyncWebClient) -> None:
        await client.views_publish(user_id=event["user"], view=home)

    @bolt.action("model")
    async def model(ack: Any, action: dict[str, Any], body: Any, client: AsyncWebClient) -> None:
        await ack()
        chosen.append(action["selected_option"]["value"])
        modal = {
            "type": "modal",
            "callback_id": "note",
            "title": {"type": "plain_text", "text": "Note"},
            "blocks": [{"type": "divider"}],
        }
        await client.views_open(trigger_id=body["trigger_id"], view=modal)

    @bolt.view("note")
    async def note(ack: Any, view: dict[str, Any]) -> None:
        chosen.append(view["state"]["values"]["b"]["a"]["value"])
        await ack()

    alice.open_home()
    view = await slack.wait_for(lambda: alice.home)
    with pytest.raises(LookupError):
        alice.choose(view, "model", "Claude")
    await alice.choose(view, "model", "GPT").settled()
    modal = (await slack.wait_for(lambda: slack.workspace.modals))[0]
    await alice.submit(modal, {"b": {"a": {"type": "plain_text_input", "value": "hi"}}}).settled()

    assert chosen == ["gpt", "hi"]


# -- a Bolt app over HTTP -----------------------------------------------------------------------


@pytest.fixture
async def over_http(slack: SlackDouble) -> AsyncIterator[AsyncApp]:
    app = AsyncApp(
        client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url),
        signing_secret=slack.signing_secret,
        process_before_response=True,
    )
    server = AsyncSlackAppServer(port=0, path="/slack/events", app=app, host="127.0.0.1")
    runner = web.AppRunner(server.web_app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.request_url = f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events"
    yield app
    await runner.cleanup()


async def test_a_request_url_is_verified_and_signed(
    slack: SlackDouble, over_http: AsyncApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert await slack.http.verify_url()
    body = json.dumps({"type": "event_callback"}).encode()
    assert (await slack.http.post(body, secret="wrong"))[0] == 401
    assert (await slack.http.post(body, timestamp=int(time.time()) - 3600))[0] == 401


async def test_events_commands_and_clicks_over_http(
    slack: SlackDouble, over_http: AsyncApp, general: Channel, alice: Person
) -> None:
    heard: list[str] = []

    @over_http.event("app_mention")
    async def mention(event: dict[str, Any], say: Any) -> None:
        heard.append(event["text"])
        await say(text="Hello", blocks=BUTTONS, thread_ts=event["ts"])

    @over_http.event("message")
    async def message() -> None:
        pass

    @over_http.command("/colloquy")
    async def command(ack: Any, body: dict[str, Any]) -> None:
        await ack(f"{body['command']} {body['text']}")

    @over_http.action("stop")
    async def stop(ack: Any, action: dict[str, Any]) -> None:
        heard.append(action["value"])
        await ack()

    asked = alice.post(general, "hello", mention=True)
    await asked.settled()
    command_sent = alice.command("/colloquy", "help", general)
    await command_sent.settled()
    (reply,) = slack.bot_messages(general, asked.ts)
    await alice.click(reply, "stop").settled()

    assert heard == [f"<@{slack.workspace.bot.id}> hello", "r1"]
    assert command_sent.response == {"text": "/colloquy help"}


async def test_a_failing_app_gets_its_events_again_with_numbers(
    slack: SlackDouble, general: Channel, alice: Person
) -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append((headers.get("X-Slack-Retry-Num"), headers.get("X-Slack-Retry-Reason")))
        if len(seen) == 1:
            return web.Response(status=500)
        return web.Response(status=500, headers={"X-Slack-No-Retry": "1"})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.request_url = f"http://127.0.0.1:{runner.addresses[0][1]}/"

    asked = alice.post(general, "hello")
    await asked.settled()

    assert seen == [(None, None), ("1", "http_error")]
    assert asked.deliveries[0].given_up
    await runner.cleanup()


# -- installing ---------------------------------------------------------------------------------


async def install(slack: SlackDouble, **more: str) -> dict[str, str]:
    """Allow the app at Slack's page; returns what it sends back."""
    query = {
        "client_id": slack.app.client_id,
        "scope": "chat:write,commands",
        "state": "s1",
        "redirect_uri": "https://bot.example.com/slack/oauth_redirect",
        **more,
    }
    async with (
        aiohttp.ClientSession() as session,
        session.get(slack.authorize_url, params=query, allow_redirects=False) as answer,
    ):
        assert answer.status == 302
        return dict(URL(answer.headers["Location"]).query)


async def test_a_code_becomes_a_token_once() -> None:
    async with SlackDouble(installed=False) as slack:
        client = AsyncWebClient(base_url=slack.api_url)
        sent_back = await install(slack)

        async def redeem(secret: str = slack.app.client_secret) -> Any:
            return await client.oauth_v2_access(
                client_id=slack.app.client_id,
                client_secret=secret,
                code=sent_back["code"],
                redirect_uri="https://bot.example.com/slack/oauth_redirect",
            )

        with pytest.raises(Exception, match="bad_client_secret"):
            await redeem("wrong")
        installation = await redeem()
        assert sent_back["state"] == "s1"
        assert installation["access_token"] == slack.bot_token
        assert installation["team"]["id"] == slack.workspace.id
        assert slack.workspace.scopes == {"chat:write", "commands"}
        with pytest.raises(Exception, match="code_already_used"):
            await redeem()
        assert (await install(slack, deny="1"))["error"] == "access_denied"


async def test_uninstalling_kills_the_token_and_tells_the_app(
    slack: SlackDouble, listener: Listener
) -> None:
    client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
    for delivery in slack.uninstall():
        await delivery.settled()

    revoked, uninstalled = listener.events
    assert revoked["tokens"]["bot"] == [slack.workspace.bot.id]
    assert uninstalled["type"] == "app_uninstalled"
    with pytest.raises(Exception, match="account_inactive"):
        await client.auth_test()
