"""A Slack to play with: `python -m tests.fakes.slack` and a browser.

It prints the settings that a bot needs, serves the channels as pages on which messages can be
written and buttons pressed, and takes the same as JSON, for scripts:

    POST /control/post     {"person": "Alice", "channel": "general", "text": "@Colloquy hi",
                            "thread": "<ts>"}; without a channel: a direct message
    POST /control/click    {"person", "channel", "ts", "action"}, with "option" for a select or
                           "good": true for the thumbs
    POST /control/command  {"person", "channel", "command": "/colloquy", "text": "help"}
    POST /control/react    {"person", "channel", "ts", "name": "octagonal_sign"}
    POST /control/edit     {"person", "channel", "ts", "text"}
    POST /control/delete   {"person", "channel", "ts"}
    GET  /control/text?channel=general
    GET  /control/calls    every call of the Web API
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from typing import Any

from aiohttp import web

from tests.fakes.slack.people import Person
from tests.fakes.slack.render import channel_html, messages_html
from tests.fakes.slack.render_blocks import blocks_html
from tests.fakes.slack.server import SlackDouble
from tests.fakes.slack.state import Channel, Json

CHANNELS = ("general", "random")
PEOPLE = ("Alice Smith", "Bob Jones")

SCRIPT = """
const page = new URL(location.href), channel = page.searchParams.get("channel");
const person = page.searchParams.get("person");
const send = (what, body) => fetch("/control/" + what,
  {method: "POST", body: JSON.stringify({person, channel, ...body})}).then(refresh);
let last = "";
async function refresh() {
  const answer = await fetch("/messages" + location.search), text = await answer.text();
  const busy = document.activeElement && document.activeElement.tagName === "SELECT";
  if (text === last || busy) return;
  last = text;
  document.getElementById("messages").innerHTML = text;
  scrollTo(0, document.body.scrollHeight);
}
const form = document.querySelector("form.composer");
const place = element => ({ts: (element.closest("[data-ts]") || {dataset: {}}).dataset.ts,
  action: element.dataset.action});
document.addEventListener("click", event => {
  const button = event.target.closest("button[data-action]");
  if (button) send("click", {...place(button),
    ...(button.dataset.rate ? {good: button.dataset.rate === "good"} : {})});
});
document.addEventListener("click", event => {
  if (form && event.target.matches(".time")) form.thread.value = place(event.target).ts;
});
document.addEventListener("change", event => {
  if (event.target.dataset.action)
    send("click", {...place(event.target), option: event.target.value});
});
if (form) form.addEventListener("submit", event => {
  event.preventDefault();
  const text = form.text.value, [, command, rest] = text.match(/^(\\/\\S+)\\s*(.*)$/) || [];
  if (command) send("command", {command, text: rest});
  else send("post", {text, thread: form.thread.value.trim() || undefined});
  form.text.value = "";
});
document.addEventListener("keydown", event => {
  if (event.key === "Enter" && !event.shiftKey && event.target.name === "text")
    { event.preventDefault(); form.requestSubmit(); }
});
setInterval(refresh, 700);
"""

COMPOSER = """<form class="composer"><textarea name="text" rows="2"
placeholder="Message: @Colloquy mentions the bot, /colloquy commands it"></textarea>
<input name="thread" placeholder="thread (click a time)" size="18">
<button class="primary">Send</button></form>
"""


class Playground(SlackDouble):
    """The double with pages and a control API."""

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/", self._page)
        app.router.add_get("/messages", self._messages)
        app.router.add_get("/control/text", self._text)
        app.router.add_get("/control/calls", self._calls)
        app.router.add_post("/control/{action}", self._control)

    async def _page(self, request: web.Request) -> web.Response:
        person = request.query.get("person", PEOPLE[0])
        channel = request.query.get("channel", CHANNELS[0])
        links = [
            f'<a href="/?person={who}&channel={where}">{who.split()[0]}: {where}</a>'
            for who in PEOPLE
            for where in (*CHANNELS, "direct", "home")
        ]
        page = channel_html(self, self._channel(channel, person), None)
        page = page.replace("<main>", f"<main><nav>{''.join(links)}</nav>")
        return _html(page.replace("</main>", f"{COMPOSER}</main><script>{SCRIPT}</script>"))

    async def _messages(self, request: web.Request) -> web.Response:
        person = self.person(request.query.get("person", PEOPLE[0]))
        name = request.query.get("channel", CHANNELS[0])
        if name == "home":
            if person.home is None:
                person.open_home()
            return _html(self._home(person))
        channel = self._channel(name, person.user.real_name)
        return _html(messages_html(self, channel, None, viewer=person.id))

    def _home(self, person: Person) -> str:
        if person.home is None:
            return '<div class="status">This app has not published a Home view.</div>'
        inside = blocks_html(self.workspace, person.home["blocks"])
        return f'<div class="message"><div class="body">{inside}</div></div>'

    async def _text(self, request: web.Request) -> web.Response:
        return web.Response(text=self.text(self.channel(request.query["channel"])))

    async def _calls(self, request: web.Request) -> web.Response:
        calls = [
            {"method": c.method, "args": c.args, "at": c.at, "ok": c.ok, "error": c.error}
            for c in self.calls()
        ]
        return web.json_response(calls)

    async def _control(self, request: web.Request) -> web.Response:
        body: Json = json.loads(await request.text())
        person = self.person(body.get("person") or PEOPLE[0])
        channel = self._channel(body.get("channel") or "direct", person.user.real_name)
        try:
            return web.json_response(self._do(request.match_info["action"], person, channel, body))
        except (LookupError, KeyError) as error:
            return web.json_response({"error": str(error)}, status=400)

    def _do(self, action: str, person: Person, channel: Channel, body: Json) -> Json:
        if action == "post":
            posted = person.post(channel, body["text"], thread=body.get("thread"))
            return {"ts": posted.ts}
        if action == "command":
            person.command(body["command"], body.get("text", ""), channel)
            return {}
        if action == "click":
            self._click(person, channel, body)
            return {}
        message = channel.messages[body["ts"]]
        if action == "react":
            person.react(message, body["name"])
        elif action == "edit":
            person.edit(message, body["text"])
        elif action == "delete":
            person.delete(message)
        else:
            raise LookupError(action)
        return {}

    def _click(self, person: Person, channel: Channel, body: Json) -> None:
        where: Any = person.home if body.get("channel") == "home" else None
        if where is None:
            private = (m for m in self.ephemerals if m.ts == body["ts"])
            where = channel.messages.get(body["ts"]) or next(private)
        if "good" in body:
            person.rate(where, body["good"])
        elif "option" in body:
            person.choose(where, body["action"], body["option"])
        else:
            person.click(where, body["action"])

    def _channel(self, name: str, person: str) -> Channel:
        return self.person(person).direct if name in {"direct", "home"} else self.channel(name)


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


async def _serve(arguments: argparse.Namespace) -> None:
    slack = Playground()
    slack.workspace.bot_token = arguments.bot_token
    slack.request_url = arguments.request_url
    for name in PEOPLE:
        slack.person(name)
    for name in CHANNELS:
        slack.channel(name)
    await slack.start(arguments.port)
    sys.stdout.write(
        f"SLACK_API_URL={slack.api_url}\n"
        f"SLACK_BOT_TOKEN={slack.bot_token}\n"
        f"SLACK_APP_TOKEN={slack.app_token}\n"
        f"SLACK_SIGNING_SECRET={slack.signing_secret}\n"
        f"SLACK_CLIENT_ID={slack.app.client_id}\n"
        f"SLACK_CLIENT_SECRET={slack.app.client_secret}\n"
        f"Open {slack.base_url}/\n"
    )
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await slack.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Slack to play with.")
    parser.add_argument("--port", type=int, default=3999)
    parser.add_argument("--bot-token", default="xoxb-the-bot-token-of-the-double")
    parser.add_argument("--request-url", default=None, help="events go there; else Socket Mode")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))
