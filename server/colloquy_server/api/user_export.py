"""All that is known of a person, as a ZIP archive: JSON in the words of the API, and their files.

Of others there is nothing in it but the replies of models to what the person wrote, and the titles
of conversations that they take part in. It is made while it is sent: what is in memory at a time
are a few messages, one piece of a file, and the ids of conversations and files.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from colloquy.api import resources_pb2 as resources
from google.protobuf import json_format
from google.protobuf.message import Message

from colloquy_server.api import convert
from colloquy_server.api.usage_reports import usage_row
from colloquy_server.database.models import AliasKind, Attachment
from colloquy_server.database.repository import export
from colloquy_server.database.repository.export import Person
from colloquy_server.database.rows import ConversationRow, MessageRow
from colloquy_server.database.transactions import Database
from colloquy_server.errors import NotFound
from colloquy_server.files.files import Files
from colloquy_server.files.storage import ObjectMissing
from colloquy_server.files.zip_stream import ZipStream

Item = TypeVar("Item")

_FILES = "files/"
"""The folder of their files, which are as they were uploaded: most are compressed already."""

_FOR_WINDOWS = str.maketrans(dict.fromkeys('<>:"|?*/\\', "_"))
"""What file names may not have there."""


class UserExport:
    """The archive of one person."""

    def __init__(self, db: Database, files: Files, person: Person) -> None:
        self._db = db
        self._files = files
        self._person = person
        self._scope = person.account_id
        self._broken: set[str] = set()
        """Files that were deleted before they were whole in the archive."""

    async def stream(self) -> AsyncGenerator[bytes]:
        """The archive, piece by piece. Raises StorageUnavailable and DatabaseUnavailable."""
        archive = ZipStream()
        async for name, data in self._entries():
            is_compressed = not name.startswith(_FILES)
            async with aclosing(archive.entry(name, data, is_compressed=is_compressed)) as pieces:
                async for piece in pieces:
                    yield piece
        for piece in archive.end():
            yield piece

    async def _entries(self) -> AsyncIterator[tuple[str, AsyncGenerator[bytes]]]:
        """What is in it, by name. Whatever is kept of people has its line here."""
        yield "user.json", self._user()
        yield "conversations.jsonl", self._conversations()
        yield "messages.jsonl", self._messages()
        yield "ratings.jsonl", self._ratings()
        yield "read_states.jsonl", self._read_states()
        yield "usage.jsonl", self._usage()
        yield "audit_events.jsonl", self._events()
        ids = await self._db.read(self._scope, export.file_ids, self._person.user.id)
        for file_id in ids:
            with suppress(NotFound):  # deleted meanwhile
                row, pieces = await self._files.open(self._scope, file_id)
                yield _path(row), self._until_deleted(file_id, pieces)
        yield "files.jsonl", self._listed(ids)

    # --- who it is ----------------------------------------------------------------------------

    async def _user(self) -> AsyncGenerator[bytes]:
        person = self._person
        found = await self._db.read(self._scope, export.access, person.user.id)
        user = convert.user(person.user)
        user.email = person.user.email
        names = {kind: [n for k, n in found.aliases if k == kind] for kind in AliasKind}
        yield _line(
            {
                "user": _json(user),
                "otherExternalIds": names[AliasKind.EXTERNAL_ID],
                "emails": names[AliasKind.EMAIL],
                "createTime": _time(person.create_time),
                "account": {"id": person.account_id, "name": person.account_name},
                "apiKeys": [_json(convert.api_key(key)) for key in found.keys],
                "sessions": [_json(convert.session(each, "")) for each in found.sessions],
            }
        )

    # --- what they said -----------------------------------------------------------------------

    async def _conversations(self) -> AsyncGenerator[bytes]:
        ids = await self._db.read(self._scope, export.conversation_ids, self._person.user.id)
        for start in range(0, len(ids), export.AT_ONCE):
            some = ids[start : start + export.AT_ONCE]
            for row in await self._db.read(self._scope, export.conversations_of, some):
                yield _line(_json(self._own_of_conversation(row)))

    def _own_of_conversation(self, row: ConversationRow) -> Message:
        conversation = convert.conversation(row)
        if conversation.creator.id != self._person.user.id:
            conversation.ClearField("creator")
            conversation.ClearField("system_prompt")
        return conversation

    async def _messages(self) -> AsyncGenerator[bytes]:
        after: tuple[str, int] | None = ("", 0)
        while after is not None:
            found, after = await self._db.read(
                self._scope, export.wrote, self._person.user.id, after
            )
            for ids in export.batches(found):
                for row in await self._db.read(self._scope, export.messages, ids):
                    yield _line(_json(self._own_of_message(row)))

    def _own_of_message(self, row: MessageRow) -> Message:
        message = convert.message(row)
        if row.rated_by != self._person.user.id:
            message.ClearField("rating")
            message.ClearField("rating_comment")
        return message

    async def _ratings(self) -> AsyncGenerator[bytes]:
        async for row in self._each(export.rated, lambda row: row.id):
            yield _line(
                {
                    "messageId": row.id,
                    "conversationId": row.conversation_id,
                    "rating": resources.Rating.Name(row.rating),  # type: ignore[arg-type]
                    "ratingComment": row.rating_comment,
                }
            )

    async def _read_states(self) -> AsyncGenerator[bytes]:
        async for row in self._each(export.states, lambda row: row.conversation_id):
            yield _line(
                {
                    "conversationId": row.conversation_id,
                    "pinned": row.pinned,
                    "readPosition": row.read_position,
                }
            )

    async def _usage(self) -> AsyncGenerator[bytes]:
        before_all = (-1, "", "")
        async for row in self._each(
            export.usage, lambda row: (row.day, row.api_key_id, row.model), before_all
        ):
            yield _line(_json(usage_row(row)))

    async def _events(self) -> AsyncGenerator[bytes]:
        async for row in self._each(export.events, lambda row: (row.time, row.id), (0, "")):
            yield _line(_json(convert.audit_event(row)))

    async def _each(
        self,
        page: Callable[..., Sequence[Item]],
        key: Callable[[Item], Any],
        after: Any = "",
    ) -> AsyncIterator[Item]:
        """All rows of a list that is read in pages."""
        rows: Sequence[Item] | None = None
        while rows is None or len(rows) == export.AT_ONCE:
            rows = await self._db.read(self._scope, page, self._person.user.id, after)
            for row in rows:
                yield row
            after = key(rows[-1]) if rows else after

    # --- their files --------------------------------------------------------------------------

    async def _until_deleted(
        self, file_id: str, pieces: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        except (NotFound, ObjectMissing):
            self._broken.add(file_id)

    async def _listed(self, ids: Sequence[str]) -> AsyncGenerator[bytes]:
        for start in range(0, len(ids), export.AT_ONCE):
            some = ids[start : start + export.AT_ONCE]
            for row in await self._db.read(self._scope, export.files, some):
                if row.id not in self._broken:
                    yield _line({**_json(convert.attachment(row)), "path": _path(row)})


def _path(row: Attachment) -> str:
    """Where a file is in the archive: under its id, as others may have its name."""
    return f"{_FILES}{row.id}/{row.filename.translate(_FOR_WINDOWS)}"


def _json(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message)


def _time(micros: int) -> str:
    stamp = convert.timestamp(micros)
    assert stamp is not None
    return stamp.ToJsonString()


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
