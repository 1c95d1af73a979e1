"""A double of Slack: a real HTTP server that a Bolt app cannot tell from the real thing.

    async with SlackDouble() as slack:
        general = slack.channel("general")
        alice = slack.person("Alice Smith")
        app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url))
        ...                                   # connect it with slack.app_token, or see HTTP below
        asked = alice.post(general, "what is a monad?", mention=True)
        await asked.settled()                 # all its events are acknowledged
        await slack.wait_for(lambda: "burrito" in slack.thread(general, asked.ts))
        assert not slack.notified
        assert slack.rate_statistics().final_edits_lost == []

**The app** (`slack.app`, SlackApp) has client_id, client_secret, signing_secret, app_token, scopes
and event subscriptions; `slack.use_manifest(dict)` takes the last two from a manifest, as when one
is pasted and the app installed again. `slack.api_url` is the base_url of a slack_sdk client,
`slack.bot_token` the first workspace's token, `slack.workspace` that workspace (`.scopes`, …).

**Ways in.** Socket Mode without more: `AsyncSocketModeHandler(app, slack.app_token)`. Over HTTP:
set `slack.request_url` to the app's URL (events, clicks and commands go there, signed);
`await slack.http.verify_url()` does the challenge; `slack.http.post(body, secret=…, timestamp=…)`
forges. OAuth: `authorization_url=slack.authorize_url` and the client's base_url; the page allows
at once (`&team=T…` chooses, `&deny=1` refuses). `SlackDouble(installed=False)` begins without a
token. `slack.add_workspace("Globex")` is another company; `slack.person(…, workspace=…)` and
`slack.channel(…, workspace=…)` are in it. `slack.app.rotates_tokens = True` gives installations
tokens that expire (`workspace.token_expires_at`, `.refresh_token`); `&org=1` at the page installs
for a whole organization: the team is null. `person(…, guest=True)` and `stranger=True` (Slack
Connect) are those; `workspace.groups` are user groups' handles; `channel.restricted = "restricted_
action"` and `channel.archived` refuse posts; `slack.system_message(channel, "channel_topic", …)`.

**People** (`slack.person(name)` → Person): `post(channel, text, thread=, mention=, files=[Upload(
"a.pdf", b"…"), canvas("Plan", "<p>…"), clip(b"…")], broadcast=, table=[["a", "b"]], attachments=,
blocks=)`, `forward(message, channel, text)`, `dm(text)`, `edit`, `delete`, `react(message,
"octagonal_sign")`,
`unreact`, `click(message_or_view, action_id_or_label)`, `choose(…, action_id, option)`,
`rate(message, good=True)` (feedback buttons), `submit(modal, values)`, `command("/colloquy",
"help", channel)`, `open_home(tab="home" | "messages")`, `look_at(channel)`, `stop(channel, thread)`
(Slack's own stop button), `home` (their App Home view), `direct` (the DM), `sees(channel)` (what
the app showed to them alone). They return Posted (`.message`, `.ts`, `.deliveries`, `await
.settled()`) or Delivery (`.acked`, `.attempts`, `.response`, `await .settled()`); None: the app
is not subscribed or not in the channel. `Upload(connect=True)` comes as `check_file_info`.
`slack.other_bot_posts(channel, text, thread_ts=, username=, blocks=, attachments=)`,
`slack.unfurl(message)` (`shows=` another message, when its link was pasted), `slack.uninstall()`.

**Deliveries** (`slack.courier`): `.deliveries`; `hold()` keeps events back and `release(times=3,
order=[2, 0, 1])` lets them go, several times and in any order; `again(delivery, times=2)` repeats;
`retry_now()` makes the retries that wait for their minute at once; `.retry_delays`, `.ack_seconds`.
`slack.socket.disconnect("warning" | "refresh_requested")` ends connections as Slack does.
`slack.events.rate_limited(team_id)` says `app_rate_limited`.

**Faults**: `slack.fail("chat.update", "edit_window_closed", times=1)`, also `status=503`,
`retry_after=3`, `drop="before" | "after"` (connection reset), `delay=0.5`, `when=lambda call: …`.
`slack.hold("chat.postMessage", applied=True)` is a Gate: `await gate.reached.wait()`, kill the
app, `gate.open()`. `slack.latency` is seconds a call. `slack.limits` (Limits) holds the tiers;
`Limits(enabled=False)` has none, `restricted_history=True` is what new distributed apps get.
`workspace.edit_window = 60` closes edits after a minute.

**What happened**: `slack.calls("chat.update", error="ratelimited")` (Call: method, args, at, ok,
error, result, retry_after); `slack.thread(channel, ts, join="")` the words of all of the app's
messages in a thread, Markdown as it was sent; `slack.bot_messages(channel, ts)` → Message (`.text`,
`.blocks`, `.metadata`, `.versions`: each state with its time and `.shown` words);
`slack.thread_files(channel, ts)`; `shown(message)`; `slack.status(channel, ts)`;
`slack.notified` (mentions in the app's messages that Slack would act on); `slack.downloads`;
`slack.rate_statistics()`; `slack.limits.busiest_minute("chat.update", team_id)`; `slack.text(
channel)` and `slack.html(channel)`. `await slack.wait_for(condition, seconds=60)` looks whenever
something happened.

**Time** (`SlackDouble(clock=…)`): real, `ScaledClock(60)` (a minute a second: limits, retries and
streams' ends; the 3 seconds for an acknowledgement shrink too, so raise `courier.ack_seconds`), or
`ManualClock()` that moves by `await clock.advance(seconds)`.

**By hand**: `python -m tests.fakes.slack` serves the channels as pages (see `play`).

**Where Slack says too little**, the double is the stricter one: rate limits are hard bounds over
every 60 seconds without bursts above them; 3 posts a channel at once and 300 a workspace and
minute; markdown blocks hold 12,000 characters in all and all blocks 13,200; a stream holds what a
message holds; after a person's stop `chat.stopStream` is refused like `appendStream`; mentions in
code count, marked `in_code`. **Left out**: user tokens, Enterprise Grid but for what
an installation says of it, scheduled messages, group conversations opened by `conversations.open`,
message shortcuts, `external_select`, the limits on a table's cells, `block_mismatch`, and pages of
`users.list` and `conversations.list` (all are on the first).
"""

from tests.fakes.slack.app import SlackApp
from tests.fakes.slack.blocks import shown
from tests.fakes.slack.clicks import Posted
from tests.fakes.slack.clock import Clock, ManualClock, ScaledClock
from tests.fakes.slack.delivery import Delivery
from tests.fakes.slack.limits import Limits
from tests.fakes.slack.people import Person, Upload, canvas, clip
from tests.fakes.slack.record import Call
from tests.fakes.slack.server import SlackDouble
from tests.fakes.slack.state import Channel, File, Message, Workspace

__all__ = [
    "Call",
    "Channel",
    "Clock",
    "Delivery",
    "File",
    "Limits",
    "ManualClock",
    "Message",
    "Person",
    "Posted",
    "ScaledClock",
    "SlackApp",
    "SlackDouble",
    "Upload",
    "Workspace",
    "canvas",
    "clip",
    "shown",
]
