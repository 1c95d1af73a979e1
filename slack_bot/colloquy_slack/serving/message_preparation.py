"""What the server gets for a request: its text, attachments and author, from what Slack has."""

from __future__ import annotations

from colloquy_slack import mentions
from colloquy_slack.database.models import Request
from colloquy_slack.external_ids import author
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving.attachments import Attachments, transfer_files
from colloquy_slack.workspaces.workspace import Workspace


async def prepare_message(
    runtime: Runtime, workspace: Workspace, request: Request
) -> dict[str, object]:
    """Return the fields of a request that the server gets.

    Raises what `transfer_files` raises.
    """
    now = runtime.now()
    names = await _names_in(workspace, request.text, now)
    content = mentions.to_plain_text(request.text, names, workspace.bot_user_id)
    attachments = Attachments()
    if request.files:
        attachments = await transfer_files(runtime, workspace, request.files)
    profile = await workspace.profile(request.user_id, now)
    user = author(request.team_id, request.user_id, profile.name, profile.avatar_url)
    return {
        "content": content or _content_without_text(profile.name, attachments),
        "attachment_ids": attachments.ids,
        "notes": attachments.notes,
        "author": {
            "external_id": user.external_id,
            "display_name": user.display_name,
            "avatar_url": user.avatar_url,
        },
    }


async def _names_in(workspace: Workspace, text: str, now: float) -> dict[str, str]:
    """Return the names of all that a text mentions, by their ids."""
    names = await workspace.names.of(mentions.nameless(text), now)
    for user_id in mentions.mentioned_users(text):
        names[user_id] = (await workspace.profile(user_id, now)).name
    return names


def _content_without_text(name: str, attachments: Attachments) -> str:
    if attachments.ids:
        return f"{name} shared this without a word."
    return f"{name} called you without saying what it is about."
