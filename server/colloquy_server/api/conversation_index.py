"""The calls of ConversationService that show conversations, or change what is shown of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from colloquy_server.api import convert
from colloquy_server.api.access import principal
from colloquy_server.api.index_watcher import IndexWatcher
from colloquy_server.api.tokens import decode_page, encode_page, page_size, token_after
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import (
    conversations,
    feed,
    people,
    personal,
    read_states,
)
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.repository.changes import Change, conversation
from colloquy_server.database.repository.seen import Only
from colloquy_server.database.rows import ConversationRow, MessageRow
from colloquy_server.database.transactions import Database, Session
from colloquy_server.errors import InvalidField
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.feeds import Feeds

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE_BYTES = 3 << 20
"""Of what a page holds; well under the 4 MiB that gRPC clients take in one message by default."""

_CHANGEABLE = (
    *("title", "model", "system_prompt", "visibility", "archived", "pinned"),
    "expire_time",
)


def _update(
    s: Session, conversation_id: str, values: Mapping[str, Any], user_id: str
) -> tuple[ConversationRow, Change | None]:
    """Changes a conversation, or only what it is to a user: then there is no change for others."""
    shared = {name: value for name, value in values.items() if name != "pinned"}
    change = conversations.change(s, conversation_id, shared) if shared else None
    if "pinned" in values:
        read_states.pin(s, conversation_id, user_id, pinned=values["pinned"])
    row = conversation(s, conversation_id)
    return personal.told(s, [row], user_id)[0], change


def _expire_time(wanted: resources.Conversation) -> int | None:
    """When a conversation is to be deleted, in microseconds; None for never. Raises
    InvalidField for a time that has been."""
    if not wanted.HasField("expire_time"):
        return None
    expire_time = convert.micros(wanted.expire_time, "conversation.expire_time")
    if expire_time <= time.time() * MICROS:
        raise InvalidField({"conversation.expire_time": "must be in the future"})
    return expire_time


class ConversationIndex:
    """One method an RPC."""

    def __init__(
        self, db: Database, feeds: Feeds, discovery: Discovery, heartbeat_interval: float
    ) -> None:
        """`heartbeat_interval` is in seconds."""
        self._db = db
        self._feeds = feeds
        self._discovery = discovery
        self._heartbeat_interval = heartbeat_interval

    async def GetConversation(
        self, request: api.GetConversationRequest, _context: Context
    ) -> api.GetConversationResponse:
        caller = principal.get()
        conversation_id = request.conversation_id.lower()

        def read(s: Session) -> tuple[ConversationRow, list[MessageRow]]:
            row, unfinished = feed.snapshot(s, conversation_id)
            return personal.told(s, [row], caller.user_id)[0], unfinished

        row, unfinished = await self._db.read(caller.scope, read)
        return api.GetConversationResponse(
            conversation=convert.conversation(row),
            resume_token=token_after(row, unfinished, []),
        )

    async def ListConversations(
        self, request: api.ListConversationsRequest, _context: Context
    ) -> api.ListConversationsResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, int, str)
        caller = principal.get()
        only = Only(
            request.archived if request.HasField("archived") else None,
            request.pinned if request.HasField("pinned") else None,
        )

        def read(s: Session) -> list[ConversationRow]:
            found = conversations.page(
                s,
                limit=limit + 1,
                after=(int(key[0]), str(key[1])) if key else None,
                participant=request.participant_external_id or None,
                only=only,
                user_id=caller.user_id,
            )
            return personal.told(s, found, caller.user_id)

        rows = await self._db.read(caller.scope, read)
        response = api.ListConversationsResponse()
        size = 0
        for row in rows:
            converted = convert.conversation(row)
            size += converted.ByteSize()
            if len(response.conversations) == limit or (
                response.conversations and size > MAX_PAGE_BYTES
            ):
                last = rows[len(response.conversations) - 1]
                response.next_page_token = encode_page(last.activity_time, last.id)
                break
            response.conversations.append(converted)
        return response

    async def WatchConversations(
        self, request: api.WatchConversationsRequest, context: Context
    ) -> None:
        caller = principal.get()
        watched = await self._feeds.accounts.open(caller.account_id)
        try:
            watcher = IndexWatcher(self._db, watched, caller, request.resume_token)
            await watcher.run(context.write, self._heartbeat_interval)
        finally:
            self._feeds.accounts.close(watched)

    async def MarkRead(
        self, request: api.MarkReadRequest, _context: Context
    ) -> api.MarkReadResponse:
        caller = principal.get()
        author = caller.author(convert.author(request.author))
        conversation_id = request.conversation_id.lower()
        message_id = request.message_id.lower()

        def mark(s: Session) -> ConversationRow:
            user_id = read_states.mark_read(s, conversation_id, message_id, author)
            return personal.told(s, [conversation(s, conversation_id)], user_id)[0]

        row = await self._db.write(caller.scope, mark)
        self._feeds.announce(caller.account_id)
        return api.MarkReadResponse(conversation=convert.conversation(row))

    async def UpdateConversation(
        self, request: api.UpdateConversationRequest, _context: Context
    ) -> api.UpdateConversationResponse:
        wanted = request.conversation
        paths = list(request.update_mask.paths)
        paths = paths or [f.name for f, _ in wanted.ListFields() if f.name in _CHANGEABLE]
        if not paths:
            raise InvalidField({"update_mask": f"name what to change: {', '.join(_CHANGEABLE)}"})
        values: dict[str, Any] = {path: getattr(wanted, path) for path in paths}
        if values.get("visibility") == resources.Conversation.VISIBILITY_UNSPECIFIED:
            raise InvalidField({"conversation.visibility": "must say who sees it"})
        if "expire_time" in values:
            values["expire_time"] = _expire_time(wanted)
        if "model" in values:

            async def choose() -> str:
                return self._choose_model(values["model"], "conversation.model")

            values["model"] = await self._discovery.choosing(choose)
        caller = principal.get()
        row, change = await self._db.write(
            caller.scope, audited(_update), wanted.id.lower(), values, caller.user_id
        )
        if change is None:
            self._feeds.announce(caller.account_id)
        else:
            self._feeds.apply(change)
        return api.UpdateConversationResponse(conversation=convert.conversation(row))

    # --- people -------------------------------------------------------------------------------

    async def ListUsers(
        self, request: api.ListUsersRequest, _context: Context
    ) -> api.ListUsersResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, str, str)
        found = await self._db.read(
            principal.get().scope,
            people.page,
            limit=limit + 1,
            after=(str(key[0]), str(key[1])) if key else None,
            query=request.query,
        )
        response = api.ListUsersResponse(users=[convert.user(row) for row, _ in found[:limit]])
        if len(found) > limit:
            row, words = found[limit - 1]
            response.next_page_token = encode_page(words, row.id)
        return response

    # --- for other calls ---------------------------------------------------------------------

    async def _told(self, row: ConversationRow | None) -> resources.Conversation:
        """A conversation that was just written, as it is to the caller."""
        assert row is not None
        caller = principal.get()
        told = await self._db.read(caller.scope, personal.told, [row], caller.user_id)
        return convert.conversation(told[0])

    def _choose_model(self, model_id: str, field: str = "model") -> str:
        if model_id:
            return self._discovery.catalog.resolve(model_id, field).id
        default = self._discovery.catalog.default()
        if default is None:
            raise self._discovery.catalog.no_default(field)
        return default.id
