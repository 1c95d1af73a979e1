"""ConversationService: from requests to the engine and the repository, and back.

Requests come here authenticated and valid; errors are raised as `errors` has them.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from colloquy_server.api import convert
from colloquy_server.api.access import principal
from colloquy_server.api.tokens import (
    Position,
    decode_page,
    decode_position,
    encode_page,
    encode_position,
    page_size,
)
from colloquy_server.api.watcher import Watcher
from colloquy_server.database import tokenizer
from colloquy_server.database.models import State
from colloquy_server.database.repository import conversations, feed, messages, receipts, search
from colloquy_server.database.repository.sending import OnBusy, Prompt
from colloquy_server.database.rows import ConversationRow, MessageRow
from colloquy_server.database.transactions import Database
from colloquy_server.errors import InvalidField
from colloquy_server.files.files import Files
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.admission import Started
from colloquy_server.replies.engine import Replies
from colloquy_server.replies.feeds import Feeds

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE_BYTES = 3 << 20
"""Of what a page holds; well under the 4 MiB that gRPC clients take in one message by default."""

_CHANGEABLE = ("title", "model", "system_prompt")

_KINDS = {
    "image": resources.Attachment.KIND_IMAGE,
    "audio": resources.Attachment.KIND_AUDIO,
    "document": resources.Attachment.KIND_DOCUMENT,
}


def _shaped(row: MessageRow) -> tuple[resources.Message, int]:
    """A message as the API has it, and its bytes."""
    message = convert.message(row)
    return message, message.ByteSize()


def _shaped_hit(row: MessageRow) -> tuple[resources.Message, int]:
    """The same, with the bytes that its snippet may take."""
    message, size = _shaped(row)
    return message, size + tokenizer.MAX_SNIPPET_BYTES


class ConversationService:
    """One method an RPC."""

    def __init__(
        self,
        db: Database,
        replies: Replies,
        feeds: Feeds,
        discovery: Discovery,
        files: Files,
        heartbeat_interval: float,
    ) -> None:
        """`heartbeat_interval` is in seconds."""
        self._db = db
        self._replies = replies
        self._feeds = feeds
        self._discovery = discovery
        self._files = files
        self._heartbeat_interval = heartbeat_interval

    # --- conversations ------------------------------------------------------------------------

    async def CreateConversation(
        self, request: api.CreateConversationRequest, _context: Context
    ) -> api.CreateConversationResponse:
        account_id = principal.get().account_id
        new = conversations.NewConversation(
            title=request.title,
            system_prompt=request.system_prompt,
            external_id=request.external_id or None,
            request_id=request.request_id or None,
            request_hash=hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest(),
        )

        async def create() -> ConversationRow:
            return await self._db.write(
                account_id,
                conversations.create,
                account_id,
                new,
                lambda: self._choose_model(request.model),
            )

        row = await self._discovery.choosing(create)
        return api.CreateConversationResponse(conversation=convert.conversation(row))

    async def GetConversation(
        self, request: api.GetConversationRequest, _context: Context
    ) -> api.GetConversationResponse:
        conversation_id = request.conversation_id.lower()
        row, unfinished = await self._db.read(
            principal.get().account_id, feed.snapshot, conversation_id
        )
        return api.GetConversationResponse(
            conversation=convert.conversation(row),
            resume_token=self._token(row, unfinished, []),
        )

    async def ListConversations(
        self, request: api.ListConversationsRequest, _context: Context
    ) -> api.ListConversationsResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, int, str)
        rows = await self._db.read(
            principal.get().account_id,
            conversations.page,
            limit=limit + 1,
            after=(int(key[0]), str(key[1])) if key else None,
            participant=request.participant_external_id or None,
        )
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

    async def UpdateConversation(
        self, request: api.UpdateConversationRequest, _context: Context
    ) -> api.UpdateConversationResponse:
        wanted = request.conversation
        paths = list(request.update_mask.paths)
        paths = paths or [path for path in _CHANGEABLE if getattr(wanted, path)]
        if not paths:
            raise InvalidField({"update_mask": f"name what to change: {', '.join(_CHANGEABLE)}"})
        values = {path: str(getattr(wanted, path)) for path in paths}
        if "model" in values:

            async def choose() -> str:
                return self._choose_model(values["model"], "conversation.model")

            values["model"] = await self._discovery.choosing(choose)
        change = await self._db.write(
            principal.get().account_id, conversations.change, wanted.id.lower(), values
        )
        self._feeds.apply(change)
        assert change.conversation is not None
        return api.UpdateConversationResponse(
            conversation=convert.conversation(change.conversation)
        )

    async def DeleteConversation(
        self, request: api.DeleteConversationRequest, _context: Context
    ) -> api.DeleteConversationResponse:
        await self._replies.delete_conversation(
            principal.get().account_id, request.conversation_id.lower()
        )
        self._files.remove_soon()
        return api.DeleteConversationResponse()

    # --- messages -----------------------------------------------------------------------------

    async def ListMessages(
        self, request: api.ListMessagesRequest, _context: Context
    ) -> api.ListMessagesResponse:
        account_id = principal.get().account_id
        conversation_id = request.conversation_id.lower()
        key = decode_page(request.page_token, int)
        # What changes between the two reads is told once more by the watch from this token.
        conversation, unfinished = await self._db.read(account_id, feed.snapshot, conversation_id)
        found, has_more = await self._db.read(
            account_id,
            messages.page,
            conversation_id,
            limit=page_size(request.page_size),
            max_bytes=MAX_PAGE_BYTES,
            shape=_shaped,
            after=int(key[0]) if key else 0,
        )
        shown = [(row, self._text_of(row)) for row, _ in found]
        response = api.ListMessagesResponse(
            next_page_token=encode_page(found[-1][0].position) if has_more else "",
            resume_token=self._token(conversation, unfinished, shown),
        )
        for (row, message), (_, text) in zip(found, shown, strict=True):
            if text is not row.content:
                message.content = text
            response.messages.append(message)
        return response

    async def GetMessage(
        self, request: api.GetMessageRequest, _context: Context
    ) -> api.GetMessageResponse:
        row, receipt = await self._db.read(
            principal.get().account_id, receipts.message, request.message_id.lower()
        )
        message = convert.message(row, self._text_of(row))
        if receipt is not None:
            message.context.CopyFrom(convert.receipt(receipt))
        return api.GetMessageResponse(message=message)

    async def SearchMessages(
        self, request: api.SearchMessagesRequest, _context: Context
    ) -> api.SearchMessagesResponse:
        key = decode_page(request.page_token, int)
        wanted = tokenizer.phrases(request.query)
        hits, has_more = await self._db.read(
            principal.get().account_id,
            search.find,
            principal.get().account_id,
            wanted,
            request.conversation_id.lower(),
            limit=page_size(request.page_size),
            max_bytes=MAX_PAGE_BYTES,
            shape=_shaped_hit,
            before=int(key[0]) if key else None,
        )
        snippets = await asyncio.to_thread(
            lambda: [tokenizer.snippet(hit.message.content, wanted) for hit in hits]
        )
        return api.SearchMessagesResponse(
            hits=[
                api.SearchMessagesResponse.Hit(message=hit.message, snippet=snippet)
                for hit, snippet in zip(hits, snippets, strict=True)
            ],
            next_page_token=encode_page(hits[-1].number) if has_more else "",
        )

    async def RateReply(
        self, request: api.RateReplyRequest, _context: Context
    ) -> api.RateReplyResponse:
        caller = principal.get()
        change, row = await self._db.write(
            caller.account_id,
            messages.rate,
            caller.account_id,
            request.message_id.lower(),
            request.rating,
            request.comment,
            caller.author(convert.author(request.author)),
        )
        self._feeds.apply(change)
        return api.RateReplyResponse(message=convert.message(row, self._text_of(row)))

    # --- replies ------------------------------------------------------------------------------

    async def SendMessage(self, request: api.SendMessageRequest, context: Context) -> None:
        caller = principal.get()
        prompt = Prompt(
            conversation_id=request.conversation_id.lower(),
            content=request.content,
            author=caller.author(convert.author(request.author)),
            request_id=request.request_id or None,
            on_busy=OnBusy(request.on_busy or OnBusy.ENQUEUE),
            attachment_ids=tuple(file.lower() for file in request.attachment_ids),
        )
        await self._stream_reply(await self._replies.send(caller.account_id, prompt), context)

    async def RegenerateReply(self, request: api.RegenerateReplyRequest, context: Context) -> None:
        started = await self._replies.regenerate(
            principal.get().account_id,
            request.message_id.lower(),
            request.model,
            request.request_id or None,
        )
        await self._stream_reply(started, context)

    async def CancelReply(
        self, request: api.CancelReplyRequest, _context: Context
    ) -> api.CancelReplyResponse:
        account_id = principal.get().account_id
        row: MessageRow | None
        if request.message_id:
            row = await self._replies.cancel(account_id, request.message_id.lower())
        else:
            row = await self._replies.cancel_request(
                account_id, request.conversation_id.lower(), request.request_id
            )
        return api.CancelReplyResponse(message=convert.message(row) if row else None)

    async def WatchConversation(
        self, request: api.WatchConversationRequest, context: Context
    ) -> None:
        account_id = principal.get().account_id
        conversation_id = request.conversation_id.lower()
        token = request.resume_token
        position = decode_position(conversation_id, token) if token else None
        # What changes between this and the opening of the feed is read from the database then.
        conversation, unfinished = await self._db.read(account_id, feed.snapshot, conversation_id)
        watched = await self._feeds.open(account_id, conversation_id)
        try:
            if position is None or position.version > conversation.version:
                watcher = Watcher(watched, Position(0))
                events = watcher.snapshot(conversation, unfinished)
            else:
                watcher = Watcher(watched, position)
                events = watcher.resume(unfinished)
            await self._follow(watcher, events, context)
        finally:
            self._feeds.close(watched)

    async def _stream_reply(self, started: Started, context: Context) -> None:
        sent = started.sent
        try:
            position = Position(sent.change.version)
            watcher = Watcher(started.feed, position, only=sent.reply.id)
            events = watcher.accepted(sent.prompt, sent.reply)
            await self._follow(watcher, events, context)
        finally:
            self._feeds.close(started.feed)

    async def _follow(self, watcher: Watcher, events: list[bytes], context: Context) -> None:
        """Writes a watcher's events until it is done."""
        watched = watcher.feed
        clock = asyncio.get_running_loop().time
        silent_at = clock() + self._heartbeat_interval
        while True:
            for event in events:
                await context.write(event)
            if events:
                silent_at = clock() + self._heartbeat_interval
            if watcher.done:
                return
            if watcher.is_behind:
                events = await watcher.catch_up()
                continue
            events = watcher.take()
            # From here to the wait nothing else runs, so no change can be missed. What woke it may
            # be for others: that is no reason to stay silent for longer.
            if not events:
                if watched.broken is not None:  # all that was to be told is told
                    raise watched.broken
                await watched.changed(silent_at - clock())
                if clock() >= silent_at:
                    events = watcher.take() or [watcher.heartbeat()]

    # --- models -------------------------------------------------------------------------------

    async def ListModels(
        self, _request: api.ListModelsRequest, _context: Context
    ) -> api.ListModelsResponse:
        await self._discovery.refresh()
        catalog = self._discovery.catalog
        default = catalog.default()
        return api.ListModelsResponse(
            models=[
                resources.Model(
                    id=model.id,
                    provider=model.provider.id,
                    available=catalog.is_available(model),
                    input_kinds=sorted(_KINDS[kind] for kind in model.input_kinds),
                    context_window=model.context_window,
                    max_output_tokens=model.max_output_tokens,
                    input_price=model.input_price,
                    output_price=model.output_price,
                )
                for model in catalog.models
            ],
            default_model=default.id if default else "",
        )

    def _choose_model(self, model_id: str, field: str = "model") -> str:
        if model_id:
            return self._discovery.catalog.resolve(model_id, field).id
        default = self._discovery.catalog.default()
        if default is None:
            raise self._discovery.catalog.no_default(field)
        return default.id

    # --- live text ----------------------------------------------------------------------------

    def _text_of(self, row: MessageRow) -> str:
        """A message's text; of a reply that is live here, what watchers see."""
        live = self._feeds.live.get(row.conversation_id)
        if (
            live is not None
            and row.state == State.GENERATING
            and (live.message_id, live.attempt) == (row.id, row.attempt)
        ):
            return live.text
        return row.content

    def _token(
        self,
        conversation: ConversationRow,
        unfinished: list[MessageRow],
        shown: list[tuple[MessageRow, str]],
    ) -> str:
        """A token to watch from what was `shown`, each message with its text. A live reply that
        was not shown is told of from its start."""
        position = Position(conversation.version)
        live = next((row for row in unfinished if row.state == State.GENERATING), None)
        if live is not None:
            seen = next(((row, text) for row, text in shown if row.id == live.id), None)
            if seen is None:
                position.version = min(position.version, live.version - 1)
            else:
                row, text = seen
                position.reply, position.reply_version = row.id, row.version
                position.attempt, position.offset = row.attempt, len(text)
        return encode_position(conversation.id, position)
