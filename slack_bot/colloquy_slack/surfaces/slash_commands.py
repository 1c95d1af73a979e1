"""The slash command /colloquy: its words choose a model, begin anew, or answer a whole channel."""

from __future__ import annotations

from colloquy import ColloquyError

from colloquy_slack.database import preferences
from colloquy_slack.external_ids import channel_external_id
from colloquy_slack.mentions import escape
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.workspace import Workspace

HELP = """*Colloquy answers you in Slack.*
• Mention me in a channel, and I answer in a thread; from then on I follow the thread.
• Write to me directly: each message begins a conversation, and its thread goes on with it.
• Share images, documents or audio with your message.
• `stop`, a 🛑 reaction or the Stop button ends an answer.

`/colloquy model` lists the models, `/colloquy model NAME` chooses one for this channel \
(in a direct message: for you)
`/colloquy new` begins a new conversation in a channel that I answer as a whole
`/colloquy channel on` has me answer everything in this channel as one conversation; \
`/colloquy channel off` ends that
`/colloquy help` shows this"""

SERVER_UNREACHABLE = "I cannot reach my server at the moment. Try again in a minute."


async def run(
    runtime: Runtime, workspace: Workspace, text: str, channel_id: str, user_id: str
) -> str:
    """Do what a slash command says and return what to tell the person who typed it."""
    word, _, rest = text.strip().partition(" ")
    argument = rest.strip()
    try:
        if word == "model":
            return await _model(runtime, workspace, argument, channel_id, user_id)
        if word == "new":
            return await _new(runtime, workspace, channel_id)
        if word == "channel" and argument in ("on", "off"):
            return await _channel(runtime, workspace, channel_id, is_on=argument == "on")
    except ColloquyError as error:
        return SERVER_UNREACHABLE if error.transient else escape(error.message)
    return HELP


async def _model(
    runtime: Runtime, workspace: Workspace, model: str, channel_id: str, user_id: str
) -> str:
    listed = await workspace.colloquy.list_models()
    available = [one.id for one in listed.models if one.available]
    is_direct = channel_id.startswith("D")
    db, team_id = runtime.db, workspace.team_id
    if not model:
        chosen_model = await db.run(preferences.conversation_model, team_id, channel_id, user_id)
        now = chosen_model or listed.default_model
        lines = [f"• `{escape(one)}`{' (now)' if one == now else ''}" for one in available]
        return "\n".join(["*Models*", *lines, "`/colloquy model NAME` chooses one."])
    if model not in available:
        names = ", ".join(f"`{escape(one)}`" for one in available)
        return f"There is no model `{escape(model)}`. There are: {names}"
    if is_direct:
        await db.run(preferences.set_user_model, team_id, user_id, model)
        return f"Your new conversations use `{escape(model)}`."
    await db.run(preferences.set_channel, team_id, channel_id, model=model)
    chosen = await db.run(preferences.channel_preferences, team_id, channel_id)
    if chosen.answers_all:
        external_id = channel_external_id(team_id, channel_id, chosen.chapter)
        conversation = await workspace.colloquy.create_conversation(external_id=external_id)
        await workspace.colloquy.update_conversation(conversation.id, model=model)
        return f"This channel uses `{escape(model)}` from now on."
    return f"New conversations in this channel use `{escape(model)}`."


async def _new(runtime: Runtime, workspace: Workspace, channel_id: str) -> str:
    if channel_id.startswith("D"):
        return "Just write: each message here that is not in a thread begins a new conversation."
    team_id = workspace.team_id
    chosen = await runtime.db.run(preferences.channel_preferences, team_id, channel_id)
    if not chosen.answers_all:
        return "Just mention me: each mention that is not in a thread begins a new conversation."
    await runtime.db.run(preferences.set_channel, team_id, channel_id, chapter=chosen.chapter + 1)
    return "A new conversation begins: what was said here before is no longer considered."


async def _channel(runtime: Runtime, workspace: Workspace, channel_id: str, *, is_on: bool) -> str:
    if channel_id.startswith("D"):
        return "I answer everything here anyway."
    await runtime.db.run(preferences.set_channel, workspace.team_id, channel_id, answers_all=is_on)
    if is_on:
        return "From now on I answer everything in this channel, as one conversation."
    return "From now on I answer here only when I am mentioned, and in my threads."
