"""Files on their way up and down, with a bar for the person who waits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import InvalidArgument
from clients.terminal.complaints import about_file
from clients.terminal.text import clean_line

if TYPE_CHECKING:
    from conversation.v1.resources_pb2 import Attachment, Message

    from clients import AsyncConversationClient, ConversationClient
    from clients.files import Progress


@contextmanager
def bar(name: str) -> Iterator[Progress | None]:
    """Show on standard error how far a file is, if that is a terminal; None if it is not."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(clean_line(name), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total or None)


async def upload(client: AsyncConversationClient, path: Path) -> Attachment:
    """Upload a file. Raises OSError when it cannot be read, and ColloquyError."""
    with bar(path.name) as progress:
        try:
            return await client.upload(path, progress=progress)
        except InvalidArgument as error:
            raise about_file(path.name, error) from None


def save(client: ConversationClient, messages: Iterable[Message], folder: Path) -> dict[str, Path]:
    """Save all files of messages in a folder, which is made; return where each is, by its id.

    A name that is taken gets a number. Raises OSError and ColloquyError.
    """
    saved: dict[str, Path] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for message in messages:
        for file in message.attachments:
            if file.id not in saved:
                path = _free(folder, _safe_name(file.filename), set(saved.values()))
                with bar(file.filename) as progress:
                    client.download(file.id, path, progress=progress)
                saved[file.id] = path
    return saved


def _safe_name(name: str) -> str:
    """Return a name that stays in its folder, whatever the server says."""
    name = clean_line(name).replace("\\", "/").rpartition("/")[2]
    return name if name.strip(". ") else "file"


def _free(folder: Path, name: str, taken: set[Path]) -> Path:
    """Return a path for a name, other than those that are taken by this export."""
    stem, suffix = os.path.splitext(name)
    path, number = folder / name, 1
    while path in taken:
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
