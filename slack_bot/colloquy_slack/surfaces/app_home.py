"""App Home: the model that a person talks to, and their recent conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from colloquy import ColloquyError
from colloquy.api.resources_pb2 import Conversation, Model

from colloquy_slack.action_ids import PICK_MODEL
from colloquy_slack.database import preferences
from colloquy_slack.external_ids import place_of, user_external_id
from colloquy_slack.mentions import escape
from colloquy_slack.runtime import Runtime
from colloquy_slack.workspaces.workspace import Workspace

_CONVERSATIONS = 10
_OPTIONS = 99
"""Models in the picker, beside the default; a select of Slack holds 100."""

_DEFAULT = "-"
"""The picker's value for the server's default: an option's value must not be empty."""

PROMPTS = [
    {"title": "Explain something", "message": "Explain to me, step by step: "},
    {"title": "Summarise a text", "message": "Summarise this in five points:\n"},
    {"title": "Write a draft", "message": "Write a draft of a message that says: "},
    {"title": "Find the bug", "message": "What is wrong with this code?\n```\n\n```"},
]


async def publish(runtime: Runtime, workspace: Workspace, user_id: str) -> None:
    """Show a person their App Home. Raises SlackError."""
    chosen = await runtime.db.run(preferences.user_model, workspace.team_id, user_id)
    try:
        listed = await workspace.colloquy.list_models()
        recent = await workspace.colloquy.list_conversations(
            page_size=_CONVERSATIONS,
            participant_external_id=user_external_id(workspace.team_id, user_id),
        )
    except ColloquyError:
        view = _view([_section("I cannot reach my server at the moment.")])
    else:
        models = [model for model in listed.models if model.available]
        view = _view(
            [
                *_picker(models, listed.default_model, chosen),
                {"type": "divider"},
                *_conversations(recent.conversations, workspace),
            ]
        )
    await workspace.slack.call("views.publish", user_id=user_id, view=view)


async def suggest_prompts(workspace: Workspace, channel_id: str) -> None:
    """Suggest prompts in a direct message that is opened. Raises SlackError."""
    await workspace.slack.call(
        "assistant.threads.setSuggestedPrompts",
        channel_id=channel_id,
        title="What can I do for you?",
        prompts=PROMPTS,
    )


def model_of_option(value: str) -> str:
    """Return the model of an option of the picker; empty for the default."""
    return "" if value == _DEFAULT else value


def _picker(models: Sequence[Model], default: str, chosen: str) -> list[dict[str, Any]]:
    options = [_option(f"Default ({default or 'none available'})", _DEFAULT)]
    options += [_option(model.id, model.id) for model in models[:_OPTIONS] if len(model.id) <= 150]
    initial = next((one for one in options if one["value"] == chosen), options[0])
    select = {
        "type": "static_select",
        "action_id": PICK_MODEL,
        "options": options,
        "initial_option": initial,
    }
    text = "*Model*\nYour new conversations use it."
    return [{**_section(text), "accessory": select}]


def _conversations(
    conversations: Sequence[Conversation], workspace: Workspace
) -> list[dict[str, Any]]:
    blocks = [_section("*Your recent conversations*")]
    for conversation in conversations:
        place = place_of(conversation.external_id)
        title = escape(conversation.title or "Untitled")[:200]
        link = workspace.web_link(conversation.id)
        web = ""
        if place is not None and place.team_id == workspace.team_id:
            ts = f"/p{place.thread_ts.replace('.', '')}" if place.thread_ts else ""
            web = f" · <{link}|web>" if link else ""
            link = f"{workspace.url}archives/{place.channel_id}{ts}"
        if link:
            title = f"<{link}|{title.replace('|', '¦')}>"
        day = conversation.last_message_time.seconds
        when = f" · <!date^{day}^{{date_short_pretty}}|recently>" if day else ""
        blocks.append(_section(f"{title}{when}{web}"))
    if not conversations:
        blocks.append(_section("None yet: write to me in the Messages tab, or mention me."))
    return blocks


def _view(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "home", "blocks": blocks}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _option(label: str, value: str) -> dict[str, Any]:
    return {"text": {"type": "plain_text", "text": label[:75]}, "value": value}
