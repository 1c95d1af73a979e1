"""The Web API's door: tokens, scopes, limits and faults, before a method and after it.

A method is a function of the double and the call, registered under its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.slack.errors import SlackError
from tests.fakes.slack.faults import Fault
from tests.fakes.slack.record import Call
from tests.fakes.slack.state import Channel, Json, Message, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


@dataclass(frozen=True)
class Method:
    run: Callable[[SlackDouble, Workspace, Call], Json]
    scope: tuple[str, ...]
    """One of these is needed; empty: none."""


METHODS: dict[str, Method] = {}

FORMS_ONLY = {"conversations.history", "conversations.replies", "files.info", "users.info"}
"""Methods that read: Slack takes no JSON there, and says that the arguments are missing."""

Run = Callable[["SlackDouble", Workspace, Call], Json]


def method(name: str, *scope: str) -> Callable[[Run], Run]:
    """Register a method that needs one of these scopes."""

    def register(run: Run) -> Run:
        METHODS[name] = Method(run, scope)
        return run

    return register


class Api:
    """Serves /api/*."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack

    async def handle(self, request: web.Request) -> web.StreamResponse:
        slack = self.slack
        name = request.match_info["method"]
        args = await _arguments(request, takes_json=name not in FORMS_ONLY)
        bearer = request.headers.get("Authorization", "")
        basic = bearer.startswith("Basic ")
        token = bearer.removeprefix("Bearer ") if bearer and not basic else args.pop("token", "")
        if basic:
            args["basic_auth"] = bearer
        call = Call(len(slack.recorder.calls), name, args, slack.clock.time(), token=str(token))
        slack.recorder.calls.append(call)
        slack.recorder.changed()
        fault = slack.faults.fault_of(call)
        gate = slack.faults.gate_of(call)
        if slack.latency:
            await asyncio.sleep(slack.latency)
        if fault is not None and (response := await self._fail(request, call, fault)) is not None:
            return response
        if gate is not None and not gate.applied:
            await gate.wait(call)
        headers = self._answer(call)
        if gate is not None and gate.applied:
            await gate.wait(call)
        if fault is not None and fault.drop == "after":
            return _hang_up(request)
        call.answered_at = slack.clock.time()
        status = 429 if call.retry_after is not None else 200
        return web.json_response(call.result, status=status, headers=headers)

    async def _fail(
        self, request: web.Request, call: Call, fault: Fault
    ) -> web.StreamResponse | None:
        """What a fault answers instead of the method; None: the method runs."""
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop == "before":
            call.ok, call.error = False, "connection dropped"
            return _hang_up(request)
        if fault.retry_after is not None:
            call.retry_after = fault.retry_after
            self._finish(call, {"ok": False, "error": "ratelimited"})
            headers = {"Retry-After": str(fault.retry_after)}
            return web.json_response(call.result, status=429, headers=headers)
        if fault.status is not None:
            call.ok, call.error = False, f"status {fault.status}"
            return web.Response(status=fault.status, text="an error of a proxy", headers={})
        if fault.error is not None:
            self._finish(call, {"ok": False, "error": fault.error})
            return web.json_response(call.result)
        return None

    def _answer(self, call: Call) -> dict[str, str]:
        """Run the method; the answer is in the call, its headers are returned."""
        headers = {"X-Slack-Req-Id": f"double-{call.number}"}
        try:
            entry = METHODS.get(call.method)
            if entry is None:
                raise SlackError("unknown_method", req_method=call.method)
            workspace = self._authenticate(call, entry)
            call.team = workspace.id
            if workspace.bot_token:
                headers["X-OAuth-Scopes"] = ",".join(sorted(workspace.scopes))
            self._limit(workspace, call, headers)
            if entry.scope and not workspace.scopes.intersection(entry.scope):
                provided = ",".join(sorted(workspace.scopes))
                raise SlackError("missing_scope", needed=entry.scope[0], provided=provided)
            self._finish(call, {"ok": True, **entry.run(self.slack, workspace, call)})
        except SlackError as error:
            self._finish(call, {"ok": False, "error": error.error, **error.fields})
        return headers

    def _authenticate(self, call: Call, entry: Method) -> Workspace:
        """The workspace that a token is of."""
        slack = self.slack
        if call.method == "oauth.v2.access":
            return slack.workspace
        if not call.token:
            raise SlackError("not_authed")
        if call.token == slack.app.app_token:
            if call.method != "apps.connections.open":
                raise SlackError("not_allowed_token_type")
            return slack.workspace
        for workspace in slack.workspaces.values():
            if call.token in workspace.old_tokens:
                if slack.clock.time() >= workspace.old_tokens[call.token]:
                    raise SlackError("token_expired")
                return workspace
            if workspace.bot_token == call.token:
                expires_at = workspace.token_expires_at
                if expires_at is not None and slack.clock.time() >= expires_at:
                    raise SlackError("token_expired")
                if call.method == "apps.connections.open":
                    raise SlackError("not_allowed_token_type")
                return workspace
        if call.token in slack.org_tokens:
            return slack.org_tokens[call.token]
        raise SlackError("account_inactive" if call.token in slack.dead_tokens else "invalid_auth")

    def _limit(self, workspace: Workspace, call: Call, headers: dict[str, str]) -> None:
        channel = call.text("channel") or None
        wait = self.slack.limits.check(workspace.id, call.method, channel, call.at)
        if wait is not None:
            call.retry_after = wait
            headers["Retry-After"] = str(wait)
            raise SlackError("ratelimited")

    def _finish(self, call: Call, result: Json) -> None:
        call.result = result
        call.ok = result["ok"]
        call.error = result.get("error")
        self.slack.recorder.changed()


def find_channel(
    slack: SlackDouble, workspace: Workspace, name: str, *, member: bool = True
) -> Channel:
    """The channel of an id, a #name or (a direct message to) a user's id.

    Raises:
        SlackError: `channel_not_found`, `is_archived`; `not_in_channel` when the bot has to be a
            member and is not.
    """
    channel = workspace.channels.get(name)
    if channel is None and name in workspace.users:
        channel = slack.direct_channel(workspace, workspace.users[name])
    if channel is None:
        by_name = (c for c in workspace.channels.values() if c.name == name.removeprefix("#"))
        channel = next(by_name, None)
    inside = channel is not None and workspace.bot.id in channel.members
    if channel is None or (channel.kind != "channel" and not inside):
        raise SlackError("channel_not_found")
    if member and not inside:
        raise SlackError("not_in_channel")
    if member and channel.archived:
        raise SlackError("is_archived")
    return channel


def find_message(channel: Channel, ts: str) -> Message:
    """The message of a ts.

    Raises:
        SlackError: `message_not_found`.
    """
    message = channel.messages.get(ts)
    if message is None or message.deleted:
        raise SlackError("message_not_found")
    return message


async def _arguments(request: web.Request, *, takes_json: bool) -> Json:
    """The arguments, wherever the SDK put them: query, form, multipart or JSON."""
    args: Json = dict(request.query)
    if request.method == "POST":
        if request.content_type == "application/json":
            body = await request.text()
            args |= json.loads(body) if body and takes_json else {}
        else:
            args |= {key: _text(value) for key, value in (await request.post()).items()}
    return args


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else value.file.read()


def _hang_up(request: web.Request) -> web.Response:
    """Reset the connection: the client gets no answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)
