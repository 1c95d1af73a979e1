"""Opens a request's conversation at the server: its model, and a system prompt of today."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from colloquy.errors import InvalidArgument

from colloquy_slack.database import inbox, preferences
from colloquy_slack.database.models import Request
from colloquy_slack.prompts import MAX_NAMES, system_prompt
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving import audiences
from colloquy_slack.workspaces.workspace import Workspace


async def open_conversation(runtime: Runtime, workspace: Workspace, request: Request) -> str:
    """Return the id of a request's conversation, made if need be. Raises ColloquyError.

    The server keeps the system prompt, and the date in it grows old: each message brings it up to
    date before it is sent. Whoever changes it elsewhere changes it until then.
    """
    db, colloquy = runtime.db, workspace.colloquy
    model = await db.run(
        preferences.conversation_model, request.team_id, request.channel_id, request.user_id
    )
    prompt = await _system_prompt(runtime, workspace, request)
    audience = await audiences.of_request(runtime, workspace, request)
    visibility = audiences.visibility(audience)
    try:
        conversation = await colloquy.create_conversation(
            external_id=request.external_id,
            model=model,
            system_prompt=prompt,
            visibility=visibility,
        )
    except InvalidArgument:
        if not model:
            raise
        # The model that was chosen is gone: the default one answers.
        conversation = await colloquy.create_conversation(
            external_id=request.external_id, system_prompt=prompt, visibility=visibility
        )
    # It may have been there before, whoever made it.
    await audiences.apply(workspace, conversation, audience, runtime.now())
    if conversation.system_prompt != prompt:
        await colloquy.update_conversation(conversation.id, system_prompt=prompt)
    return conversation.id


async def refresh(runtime: Runtime, workspace: Workspace, request: Request) -> None:
    """Bring the system prompt and the audience of a conversation that is there up to date. Raises
    ColloquyError."""
    prompt = await _system_prompt(runtime, workspace, request)
    audience = await audiences.of_request(runtime, workspace, request)
    found = await workspace.colloquy.get_conversation(request.conversation_id)
    await audiences.apply(workspace, found.conversation, audience, runtime.now())
    if found.conversation.system_prompt != prompt:
        await workspace.colloquy.update_conversation(found.conversation.id, system_prompt=prompt)


async def _system_prompt(runtime: Runtime, workspace: Workspace, request: Request) -> str:
    channel = await runtime.db.run(
        preferences.channel_preferences, request.team_id, request.channel_id
    )
    people = await runtime.db.run(inbox.people_in, request.team_id, request.external_id)
    now = runtime.now()
    names = [(await workspace.profile(user_id, now)).name for user_id in people[:MAX_NAMES]]
    # The day of whoever asks: at any time it is another one somewhere.
    offset = (await workspace.profile(request.user_id, now)).utc_offset
    today = (datetime.fromtimestamp(now, UTC) + timedelta(seconds=offset)).date()
    others = max(0, len(people) - MAX_NAMES)
    return system_prompt(channel.prompt, today, names, others, is_direct=request.is_direct)
