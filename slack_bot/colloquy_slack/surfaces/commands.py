"""What people tell the bot, with /colloquy or by mentioning it: which model, when to answer, …"""

from __future__ import annotations

from dataclasses import dataclass

from colloquy import ColloquyError

from colloquy_slack.database import preferences
from colloquy_slack.database.models import Mode
from colloquy_slack.external_ids import channel_external_id
from colloquy_slack.mentions import escape
from colloquy_slack.prompts import INSTRUCTIONS
from colloquy_slack.runtime import Runtime
from colloquy_slack.surfaces import usage
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
`/colloquy mode mentions` has me answer in threads here only when I am mentioned, \
`/colloquy mode all` always; `/colloquy mode auto` until you talk with each other
`/colloquy mute` has me say nothing here, `/colloquy unmute` ends that
`/colloquy prompt` shows what models are told in this channel, `/colloquy prompt TEXT` replaces \
it, `/colloquy prompt reset` undoes that
`/colloquy usage` shows what you used this month, and the budgets
`/colloquy help` shows this

In a thread, where Slack has no slash commands, mention me instead: `@Colloquy mode mentions`, \
`@Colloquy model NAME`, `@Colloquy mute`. It then holds for the thread."""

MAX_PROMPT = 8_000
"""Characters of a channel's prompt."""

_SHOWN_PROMPT = 2_500

_MODES = {"all": Mode.ALL, "mentions": Mode.MENTIONS, "auto": Mode.AUTO}
_MODE_WORDS = {
    Mode.AUTO: "I answer here without being mentioned, until you turn to each other by name.",
    Mode.ALL: "I answer here without being mentioned, unless you call somebody else by name.",
    Mode.MENTIONS: "I answer here only when I am mentioned.",
    Mode.MUTED: "I say nothing here until somebody says `unmute` to me.",
}

SERVER_UNREACHABLE = "I cannot reach my server at the moment. Try again in a minute."


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that a command is about."""

    ts: str
    external_id: str
    """Of its conversation."""


async def run(
    runtime: Runtime,
    workspace: Workspace,
    text: str,
    channel_id: str,
    user_id: str,
    *,
    thread: Thread | None = None,
) -> str:
    """Do what a command says and return what to tell the person who gave it."""
    word, _, rest = text.strip().partition(" ")
    argument = rest.strip()
    try:
        if word == "model":
            return await _model(runtime, workspace, argument, channel_id, user_id, thread)
        if word == "new":
            return await _new(runtime, workspace, channel_id)
        if word == "channel" and argument in ("on", "off"):
            return await _channel(runtime, workspace, channel_id, is_on=argument == "on")
        if word == "mode" and argument in ("", *_MODES):
            mode = _MODES[argument] if argument else None
            return await _mode(runtime, workspace.team_id, channel_id, mode, thread)
        if word in ("mute", "unmute"):
            mode = Mode.MUTED if word == "mute" else Mode.UNSET
            return await _mode(runtime, workspace.team_id, channel_id, mode, thread)
        if word == "prompt":
            return await _prompt(runtime, workspace.team_id, channel_id, argument)
        if word == "usage":
            return await usage.tell(runtime, workspace, user_id)
    except ColloquyError as error:
        return SERVER_UNREACHABLE if error.transient else escape(error.message)
    if workspace.web_url:
        return f"{HELP}\n\nWhat we say is on the web, too: <{workspace.web_url}/|open it>."
    return HELP


async def _model(
    runtime: Runtime,
    workspace: Workspace,
    model: str,
    channel_id: str,
    user_id: str,
    thread: Thread | None,
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
    if thread is not None:
        await _use_model(workspace, thread.external_id, model)
        return f"This thread uses `{escape(model)}` from now on."
    if is_direct:
        await db.run(preferences.set_user_model, team_id, user_id, model)
        return f"Your new conversations use `{escape(model)}`."
    await db.run(preferences.set_channel, team_id, channel_id, model=model)
    chosen = await db.run(preferences.channel_preferences, team_id, channel_id)
    if chosen.answers_all:
        external_id = channel_external_id(team_id, channel_id, chosen.chapter)
        await _use_model(workspace, external_id, model)
        return f"This channel uses `{escape(model)}` from now on."
    return f"New conversations in this channel use `{escape(model)}`."


async def _use_model(workspace: Workspace, external_id: str, model: str) -> None:
    conversation = await workspace.colloquy.create_conversation(external_id=external_id)
    await workspace.colloquy.update_conversation(conversation.id, model=model)


async def _mode(
    runtime: Runtime, team_id: str, channel_id: str, mode: Mode | None, thread: Thread | None
) -> str:
    """Set when the bot answers, UNSET: as before it was set; None: tell when it does."""
    if channel_id.startswith("D"):
        return "I answer everything here."
    channel = await runtime.db.run(preferences.channel_preferences, team_id, channel_id)
    if mode is None:
        mode = channel.mode
        if thread is not None:
            known = await runtime.db.run(
                preferences.thread_preferences, team_id, channel_id, thread.ts
            )
            mode = known.mode or mode
        return _MODE_WORDS[mode]
    if thread is not None:
        if mode is Mode.UNSET and channel.mode is Mode.MUTED:
            mode = Mode.AUTO
        await runtime.db.run(preferences.set_thread, team_id, channel_id, thread.ts, mode=mode)
        return f"In this thread: {_MODE_WORDS[mode or channel.mode]}"
    await runtime.db.run(preferences.set_channel, team_id, channel_id, mode=mode)
    return f"In the threads of this channel: {_MODE_WORDS[mode or Mode.AUTO]}"


async def _prompt(runtime: Runtime, team_id: str, channel_id: str, text: str) -> str:
    """Show or set what models are told in a channel before what people say."""
    if not text:
        chosen = await runtime.db.run(preferences.channel_preferences, team_id, channel_id)
        shown = chosen.prompt or INSTRUCTIONS
        cut = "…" if len(shown) > _SHOWN_PROMPT else ""
        return (
            f"Models are told here:\n```{escape(shown[:_SHOWN_PROMPT])}{cut}```\n"
            "and then the date, and who is there."
        )
    if len(text) > MAX_PROMPT:
        return f"That is too long: a prompt may have {MAX_PROMPT:,} characters."
    prompt = "" if text == "reset" else text
    await runtime.db.run(preferences.set_channel, team_id, channel_id, prompt=prompt)
    if not prompt:
        return "From the next message on, models are told what I tell them everywhere."
    return "From the next message on, models are told that, the date, and who is there."


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
