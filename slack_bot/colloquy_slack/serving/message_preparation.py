"""What the server gets for a request: its text, attachments and author, from what Slack has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from colloquy_slack import mentions
from colloquy_slack.database.models import Request
from colloquy_slack.database.thread_reads import Progress
from colloquy_slack.external_ids import author
from colloquy_slack.message_text import name_of
from colloquy_slack.runtime import Runtime
from colloquy_slack.serving import context_block
from colloquy_slack.serving.attachments import MAX_FILES, Transfer, transfer_files
from colloquy_slack.serving.context_block import Selection
from colloquy_slack.serving.earlier_messages import find_earlier
from colloquy_slack.serving.linked_messages import Written, with_linked
from colloquy_slack.workspaces.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as the server gets it."""

    fields: dict[str, object]
    """Of the request."""
    progress: Progress | None
    """What it adds to what is known of its thread."""


async def prepare_message(runtime: Runtime, workspace: Workspace, request: Request) -> Prepared:
    """Return what the server gets for a request.

    Raises what `transfer_files` raises.
    """
    written = await with_linked(runtime, workspace, request)
    earlier = await find_earlier(runtime, workspace, request)
    selection = context_block.select(earlier)
    names = await _names(runtime, workspace, written, selection)
    own = await transfer_files(runtime, workspace, written.files, MAX_FILES)
    room = MAX_FILES - sum(1 for one in own if one.attachment_id)
    # The latest first: the message is most likely about those.
    shared = [file for said in reversed(selection.said) for file in said.files]
    others = await transfer_files(runtime, workspace, shared, room)

    block = context_block.render(
        earlier,
        selection,
        names,
        workspace.bot_user_id,
        missing={one.file_id: one.trouble for one in others if one.trouble},
        notes=_notes_for_model(written, own),
    )
    profile = await workspace.profile(request.user_id, runtime.now())
    words = mentions.to_plain_text(written.text, names, workspace.bot_user_id)
    text = context_block.guard(words or _without_words(profile.name, written, selection))
    user = author(request.team_id, request.user_id, profile.name, profile.avatar_url, profile.email)
    fields: dict[str, object] = {
        "text": written.text,
        "content": block + text,
        "attachment_ids": [one.attachment_id for one in [*own, *others] if one.attachment_id],
        "notes": [*map(_note, filter(_has_trouble, own)), *_notes_of_others(others)],
        "author": {
            "external_id": user.external_id,
            "display_name": user.display_name,
            "avatar_url": user.avatar_url,
            "email": user.email,
        },
    }
    return Prepared(fields, earlier.progress)


def _notes_for_model(written: Written, own: list[Transfer]) -> list[str]:
    notes = [
        f"The message below came with a file that is not given to you: {one.name}: {one.trouble}"
        for one in own
        if one.trouble
    ]
    if written.is_link_unshown:
        notes.append("What the links to Slack messages below lead to is not shown to you.")
    return notes


async def _names(
    runtime: Runtime, workspace: Workspace, written: Written, selection: Selection
) -> dict[str, str]:
    """Return the names of all who wrote, and of all that is mentioned, by their ids."""
    texts = [written.text, *(said.text for said in selection.said)]
    users = {user for text in texts for user in mentions.mentioned_users(text)}
    users |= {said.user_id for said in selection.said if said.user_id and not said.bot_name}
    now = runtime.now()
    nameless = {each for text in texts for each in mentions.nameless(text)}
    names = await workspace.names.of(sorted(nameless), now)
    for user in sorted(users):
        names[user] = (await workspace.profile(user, now)).name
    return names


def _without_words(name: str, written: Written, selection: Selection) -> str:
    """What a message says that has no words."""
    if written.files:
        return f"{name} shared {_listed(written.files)} without a word."
    if selection.said:
        return (
            f"{name} called you here without a word: it is about what was said before. Answer the"
            " last question there that is open, or say what you can add."
        )
    return f"{name} called you without saying what it is about."


def _listed(files: Iterable[dict[str, Any]]) -> str:
    return ", ".join(map(name_of, files))


def _has_trouble(transfer: Transfer) -> bool:
    return bool(transfer.trouble)


def _note(transfer: Transfer) -> str:
    return f"I could not read {transfer.name}: {transfer.trouble}"


def _notes_of_others(transfers: list[Transfer]) -> list[str]:
    """What the people should know of the files of earlier messages."""
    failed = [_note(one) for one in transfers if one.trouble and not one.is_left_out]
    left_out = sum(1 for one in transfers if one.is_left_out)
    if left_out:
        failed.append(f"Left out: {left_out} earlier files (a message takes {MAX_FILES} files).")
    return failed
