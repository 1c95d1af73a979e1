"""Installing the app: the page where a person allows it, and the code that becomes a token."""

from __future__ import annotations

import secrets
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.slack.errors import SlackError
from tests.fakes.slack.state import Json, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble

CODE_SECONDS = 600
"""A code lives ten minutes."""
TOKEN_SECONDS = 43_200
"""A token lives twelve hours where tokens are rotated."""


@dataclass
class Code:
    workspace: Workspace
    user: str
    scopes: set[str]
    redirect_uri: str
    made_at: float
    used: bool = False
    org: bool = False
    """All workspaces of an organization get the app, with one token."""


async def authorize(slack: SlackDouble, request: web.Request) -> web.Response:
    """Serve the page. It allows at once; `team=T…` chooses the workspace, `deny=1` refuses;
    `org=1` installs it for a whole organization."""
    query = request.query
    if query.get("client_id") != slack.app.client_id:
        return web.Response(status=400, text="Invalid client_id parameter")
    back = query.get("redirect_uri", "")
    answer = {"state": query.get("state", "")}
    if query.get("deny"):
        answer["error"] = "access_denied"
    else:
        workspace = slack.workspaces[query.get("team", slack.workspace.id)]
        people = [user.id for user in workspace.users.values() if not user.is_bot]
        code = secrets.token_hex(16)
        scopes = set(filter(None, query.get("scope", "").replace(" ", ",").split(",")))
        installer = people[0] if people else "U0INSTALLER"
        slack.codes[code] = Code(
            workspace, installer, scopes, back, slack.clock.time(), org=bool(query.get("org"))
        )
        answer["code"] = code
    separator = "&" if "?" in back else "?"
    location = f"{back}{separator}{urllib.parse.urlencode(answer)}"
    return web.Response(status=302, headers={"Location": location})


def redeem(slack: SlackDouble, value: str, redirect_uri: str) -> Json:
    """Make a token of a code.

    Raises:
        SlackError: as oauth.v2.access refuses.
    """
    code = slack.codes.get(value)
    if code is None or slack.clock.time() - code.made_at > CODE_SECONDS:
        raise SlackError("invalid_code")
    if code.used:
        raise SlackError("code_already_used")
    if code.redirect_uri and redirect_uri != code.redirect_uri:
        raise SlackError("bad_redirect_uri")
    code.used = True
    workspace = code.workspace
    if code.org:
        token = slack.new_token()
        slack.org_tokens[token] = workspace
        return {
            "app_id": slack.app.id,
            "authed_user": {"id": code.user},
            "scope": ",".join(sorted(code.scopes)),
            "token_type": "bot",
            "access_token": token,
            "bot_user_id": workspace.bot.id,
            "team": None,
            "enterprise": {"id": "E0DBL000001", "name": "Umbrella"},
            "is_enterprise_install": True,
        }
    workspace.scopes = code.scopes or set(slack.app.scopes)
    if workspace.bot_token is None:
        workspace.bot_token = slack.new_token()
    rotating = _rotate(slack, workspace) if slack.app.rotates_tokens else {}
    return {
        "app_id": slack.app.id,
        "authed_user": {"id": code.user},
        "scope": ",".join(sorted(workspace.scopes)),
        "token_type": "bot",
        "access_token": workspace.bot_token,
        "bot_user_id": workspace.bot.id,
        "team": {"id": workspace.id, "name": workspace.name},
        "enterprise": None,
        "is_enterprise_install": False,
        **rotating,
    }


def refresh(slack: SlackDouble, refresh_token: str) -> Json:
    """Make a new token of a refresh token, which is good for once.

    Raises:
        SlackError: `invalid_refresh_token`.
    """
    for workspace in slack.workspaces.values():
        if workspace.refresh_token and workspace.refresh_token == refresh_token:
            rotated = _rotate(slack, workspace)
            return {
                "app_id": slack.app.id,
                "scope": ",".join(sorted(workspace.scopes)),
                "token_type": "bot",
                "bot_user_id": workspace.bot.id,
                "team": {"id": workspace.id, "name": workspace.name},
                **rotated,
                "access_token": workspace.bot_token,
            }
    raise SlackError("invalid_refresh_token")


def _rotate(slack: SlackDouble, workspace: Workspace) -> Json:
    """Give a workspace a token that expires; the one before it holds until its own end."""
    if workspace.bot_token is not None and workspace.token_expires_at is not None:
        workspace.old_tokens[workspace.bot_token] = workspace.token_expires_at
        workspace.bot_token = f"xoxe.{slack.new_token()}"
    elif workspace.bot_token is not None and not workspace.bot_token.startswith("xoxe."):
        workspace.bot_token = f"xoxe.{workspace.bot_token}"
    workspace.token_expires_at = slack.clock.time() + TOKEN_SECONDS
    workspace.refresh_token = f"xoxe-1-{secrets.token_hex(12)}"
    return {"refresh_token": workspace.refresh_token, "expires_in": TOKEN_SECONDS}
