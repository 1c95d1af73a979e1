"""response_url: how an app answers a click or a command, and what a command's ack may say."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.slack.chat import content_of
from tests.fakes.slack.errors import SlackError
from tests.fakes.slack.state import Channel, Json, Message, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

MOST_USES = 5
LIFETIME = 1800.0
"""Five answers within half an hour: https://docs.slack.dev/interactivity/handling-user-interaction"""


@dataclass
class ResponseUrl:
    workspace: Workspace
    channel: Channel
    user: str
    message: Message | None
    """What was clicked; None for a command."""
    made_at: float
    uses: int = 0


def new_url(
    slack: SlackDouble, workspace: Workspace, channel: Channel, user: str, message: Message | None
) -> str:
    token = secrets.token_urlsafe(24)
    slack.response_urls[token] = ResponseUrl(workspace, channel, user, message, slack.clock.time())
    return f"{slack.base_url}/response/{token}"


async def take(slack: SlackDouble, request: web.Request) -> web.Response:
    """Serve a response_url."""
    target = slack.response_urls.get(request.match_info["token"])
    if target is None or slack.clock.time() - target.made_at > LIFETIME:
        return web.Response(status=404, text="expired_url")
    if target.uses >= MOST_USES:
        return web.Response(status=404, text="used_url")
    try:
        apply(slack, target, await request.json())
    except SlackError as error:
        return web.json_response({"ok": False, "error": error.error}, status=400)
    target.uses += 1
    return web.Response(text="ok")


def apply(slack: SlackDouble, target: ResponseUrl, body: Json) -> None:
    """Do what an answer asks for: replace, delete, or post (for one person unless told otherwise).

    Raises:
        SlackError: its content is refused.
    """
    workspace, channel, original = target.workspace, target.channel, target.message
    if body.get("delete_original") and original is not None:
        if original.ephemeral_to is None:
            slack.messages.delete(workspace, channel, original)
        original.deleted = True
        slack.recorder.changed()
        return
    fields = content_of(body)
    if not fields:
        raise SlackError("no_text")
    if body.get("replace_original") and original is not None:
        fields.setdefault("blocks", [])
        slack.messages.edit(workspace, channel, original, workspace.bot.id, **fields)
        return
    fields["thread_ts"] = body.get("thread_ts")
    if body.get("response_type") == "in_channel":
        message = slack.messages.post(
            workspace, channel, user=workspace.bot.id, bot_id=workspace.bot_id, **fields
        )
        slack.messages.announce(workspace, channel, message)
    else:
        slack.post_ephemeral(workspace, channel, target.user, **fields)
