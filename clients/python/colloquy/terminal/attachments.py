"""Uploads files and saves attachments, with a progress bar for the person who waits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from colloquy.errors import InvalidArgument
from colloquy.terminal.error_formatter import file_error
from colloquy.terminal.formatting import clean_line

if TYPE_CHECKING:
    from colloquy import AsyncConversationClient, ConversationClient
    from colloquy.api.resources_pb2 import Attachment, Message
    from colloquy.file_transfer import Progress

_MAX_NAME = 255
"""Bytes of a name, as file systems have it."""


@contextmanager
def progress_bar(name: str) -> Iterator[Progress | None]:
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


async def upload_with_progress(client: AsyncConversationClient, path: Path) -> Attachment:
    """Upload a file. Raises OSError when it cannot be read, and ColloquyError."""
    with progress_bar(path.name) as progress:
        try:
            return await client.upload(path, progress=progress)
        except InvalidArgument as error:
            raise file_error(path.name, error) from None


def save_attachments(
    client: ConversationClient, messages: Iterable[Message], folder: Path, output: Path | None
) -> dict[str, Path]:
    """Save all files of messages in a folder, which is made; return where each is, by its id, as
    seen from the folder of `output`, if there is one.

    Nothing that is there is written over, nor the place of `output`: a name that is taken gets a
    number. Raises OSError and ColloquyError.
    """
    saved: dict[str, Path] = {}
    folder.mkdir(parents=True, exist_ok=True)
    taken = {path.name.casefold() for path in (*folder.iterdir(), output) if path is not None}
    for message in messages:
        for file in message.attachments:
            if file.id not in saved:
                path = folder / _free(_safe_name(file.filename), taken)
                taken.add(path.name.casefold())
                with progress_bar(file.filename) as progress:
                    client.download(file.id, path, progress=progress)
                saved[file.id] = path if output is None else _from(output.parent, path)
    return saved


def _from(folder: Path, path: Path) -> Path:
    return Path(os.path.relpath(path, folder))


def _safe_name(name: str) -> str:
    """Return a name that stays in its folder, whatever the server says."""
    name = clean_line(name).replace("\\", "/").rpartition("/")[2]
    return name if name.strip(". ") else "file"


def _free(name: str, taken: set[str]) -> str:
    """Return the name, or one like it, that is not among those that are taken, in any case of
    letters: some disks make no difference."""
    stem, suffix = os.path.splitext(name)
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        end = f"-{number}{suffix}"
        found = stem.encode()[: _MAX_NAME - len(end.encode())].decode(errors="ignore") + end
    return found
