"""ConversationService: from requests to the engine and the repository, and back.

Requests come here authenticated and valid; errors are raised as `errors` has them.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from colloquy_server.api import convert
from colloquy_server.api.access import Principal, principal
from colloquy_server.api.conversation_index import MAX_PAGE_BYTES, ConversationIndex
from colloquy_server.api.following import follow
from colloquy_server.api.handlers import Context
from colloquy_server.api.tokens import (
    Position,
    decode_page,
    decode_position,
    encode_page,
    page_size,
    token_after,
)
from colloquy_server.api.usage_reports import UsageReports
from colloquy_server.api.watcher import Watcher
from colloquy_server.database import tokenizer
from colloquy_server.database.models import State, Visibility
from colloquy_server.database.repository import (
    conversations,
    feed,
    messages,
    participants,
    receipts,
    search,
)
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.repository.quotas import Charge, Limits
from colloquy_server.database.repository.sending import OnBusy, Prompt
from colloquy_server.database.rows import ConversationRow, MessageRow
from colloquy_server.database.transactions import Database, Viewer
from colloquy_server.files.files import Files
from colloquy_server.providers.discovery import Discovery
from colloquy_server.replies.admission import Started
from colloquy_server.replies.engine import Replies
from colloquy_server.replies.feeds import Feeds


def _shaped(row: MessageRow) -> tuple[resources.Message, int]:
    """A message as the API has it, and its bytes."""
    message = convert.message(row)
    return message, message.ByteSize()


def _shaped_hit(row: MessageRow) -> tuple[resources.Message, int]:
    """The same, with the bytes that its snippet may take."""
    message, size = _shaped(row)
    return message, size + tokenizer.MAX_SNIPPET_BYTES


def _charge(caller: Principal) -> Charge:
    """Whom a reply counts for that the caller asks for."""
    asker_id = "" if caller.speaks_for_others else caller.user_id
    return Charge(caller.limited_key_id, used_key_id=caller.key_id, asker_id=asker_id)


class ConversationService(ConversationIndex, UsageReports):
    """One method an RPC; those of lists are in `ConversationIndex`."""

    def __init__(
        self,
        db: Database,
        replies: Replies,
        feeds: Feeds,
        discovery: Discovery,
        files: Files,
        heartbeat_interval: float,
        limits: Limits,
    ) -> None:
        """`heartbeat_interval` is in seconds; `limits` are those of accounts that have none of
        their own."""
        super().__init__(db, feeds, discovery, heartbeat_interval)
        self._replies = replies
        self._files = files
        self._limits = limits

    # --- conversations ------------------------------------------------------------------------

    async def CreateConversation(
        self, request: api.CreateConversationRequest, _context: Context
    ) -> api.CreateConversationResponse:
        caller = principal.get()
        account_id = caller.account_id
        charge = Charge(caller.limited_key_id, self._limits)
        new = conversations.NewConversation(
            title=request.title,
            system_prompt=request.system_prompt,
            external_id=request.external_id or None,
            request_id=request.request_id or None,
            request_hash=hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest(),
            author=caller.author(convert.author(request.author)),
            visibility=Visibility(request.visibility) if request.visibility else None,
            expire_time=(
                convert.micros(request.expire_time, "expire_time")
                if request.HasField("expire_time")
                else None
            ),
        )

        async def create() -> ConversationRow:
            return await self._db.write(
                caller.scope,
                conversations.create,
                account_id,
                new,
                lambda: self._choose_model(request.model),
                charge,
            )

        row = await self._discovery.choosing(create)
        self._feeds.announce(account_id)
        return api.CreateConversationResponse(conversation=await self._told(row))

    async def AddParticipants(
        self, request: api.AddParticipantsRequest, _context: Context
    ) -> api.AddParticipantsResponse:
        caller = principal.get()
        conversation_id = request.conversation_id.lower()
        change = await self._db.write(
            caller.scope,
            audited(participants.add),
            conversation_id,
            [caller.other(convert.author(user)) for user in request.users],
            may_rename=caller.speaks_for_others,
        )
        self._feeds.apply(change)
        return api.AddParticipantsResponse(conversation=await self._told(change.conversation))

    async def RemoveParticipant(
        self, request: api.RemoveParticipantRequest, _context: Context
    ) -> api.RemoveParticipantResponse:
        caller = principal.get()
        change, is_seen = await self._db.write(
            caller.scope,
            audited(participants.remove),
            request.conversation_id.lower(),
            request.user_id.lower(),
        )
        self._feeds.apply(change)
        if not is_seen:
            return api.RemoveParticipantResponse()
        return api.RemoveParticipantResponse(conversation=await self._told(change.conversation))

    async def DeleteConversation(
        self, request: api.DeleteConversationRequest, _context: Context
    ) -> api.DeleteConversationResponse:
        await self._replies.delete_conversation(
            principal.get().scope, request.conversation_id.lower()
        )
        self._files.remove_soon()
        return api.DeleteConversationResponse()

    # --- messages -----------------------------------------------------------------------------

    async def ListMessages(
        self, request: api.ListMessagesRequest, _context: Context
    ) -> api.ListMessagesResponse:
        scope = principal.get().scope
        conversation_id = request.conversation_id.lower()
        key = decode_page(request.page_token, int)
        # What changes between the two reads is told once more by the watch from this token.
        conversation, unfinished = await self._db.read(scope, feed.snapshot, conversation_id)
        found, has_more = await self._db.read(
            scope,
            messages.page,
            conversation_id,
            limit=page_size(request.page_size),
            max_bytes=MAX_PAGE_BYTES,
            shape=_shaped,
            after=int(key[0]) if key else messages.FROM_END if request.from_end else 0,
            from_end=request.from_end,
        )
        shown = [(row, self._text_of(row)) for row, _ in found]
        last = 0 if request.from_end else -1
        response = api.ListMessagesResponse(
            next_page_token=encode_page(found[last][0].position) if has_more else "",
            resume_token=token_after(conversation, unfinished, shown),
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
            principal.get().scope, receipts.message, request.message_id.lower()
        )
        message = convert.message(row, self._text_of(row))
        if receipt is not None:
            message.context.CopyFrom(convert.receipt(receipt))
        return api.GetMessageResponse(message=message)

    async def SearchMessages(
        self, request: api.SearchMessagesRequest, _context: Context
    ) -> api.SearchMessagesResponse:
        key = decode_page(request.page_token, str)
        wanted = tokenizer.phrases(request.query)
        hits, has_more = await self._db.read(
            principal.get().scope,
            search.find,
            principal.get().account_id,
            wanted,
            request.conversation_id.lower(),
            limit=page_size(request.page_size),
            max_bytes=MAX_PAGE_BYTES,
            shape=_shaped_hit,
            after=str(key[0]) if key else "",
        )
        snippets = await asyncio.to_thread(
            lambda: [tokenizer.snippet(hit.content, wanted) for hit in hits]
        )
        return api.SearchMessagesResponse(
            hits=[
                api.SearchMessagesResponse.Hit(message=hit, snippet=snippet)
                for hit, snippet in zip(hits, snippets, strict=True)
            ],
            next_page_token=encode_page(hits[-1].id) if has_more else "",
        )

    async def DeleteMessage(
        self, request: api.DeleteMessageRequest, _context: Context
    ) -> api.DeleteMessageResponse:
        await self._replies.delete_message(principal.get().scope, request.message_id.lower())
        self._files.remove_soon()
        return api.DeleteMessageResponse()

    async def RateReply(
        self, request: api.RateReplyRequest, _context: Context
    ) -> api.RateReplyResponse:
        caller = principal.get()
        change, row = await self._db.write(
            caller.scope,
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
        started = await self._replies.send(caller.scope, prompt, _charge(caller))
        await self._stream_reply(started, context)

    async def RegenerateReply(self, request: api.RegenerateReplyRequest, context: Context) -> None:
        caller = principal.get()
        started = await self._replies.regenerate(
            caller.scope,
            request.message_id.lower(),
            request.model,
            request.request_id or None,
            _charge(caller),
        )
        await self._stream_reply(started, context)

    async def CancelReply(
        self, request: api.CancelReplyRequest, _context: Context
    ) -> api.CancelReplyResponse:
        scope = principal.get().scope
        row: MessageRow | None
        if request.message_id:
            row = await self._replies.cancel(scope, request.message_id.lower())
        else:
            row = await self._replies.cancel_request(
                scope, request.conversation_id.lower(), request.request_id
            )
        return api.CancelReplyResponse(message=convert.message(row) if row else None)

    async def WatchConversation(
        self, request: api.WatchConversationRequest, context: Context
    ) -> None:
        caller = principal.get()
        conversation_id = request.conversation_id.lower()
        token = request.resume_token
        position = decode_position(conversation_id, token) if token else None
        # What changes between this and the opening of the feed is read from the database then.
        conversation, unfinished = await self._db.read(caller.scope, feed.snapshot, conversation_id)
        known = conversation.info_version
        watched = await self._feeds.open(caller.account_id, conversation_id)
        try:
            if position is None or position.version > conversation.version:
                watcher = Watcher(watched, Position(0), audience_version=known)
                events = watcher.snapshot(conversation, unfinished)
            else:
                watcher = Watcher(watched, position, audience_version=known)
                events = watcher.resume(unfinished)
            await self._follow(watcher, events, context)
        finally:
            self._feeds.close(watched)

    async def _stream_reply(self, started: Started, context: Context) -> None:
        sent = started.sent
        try:
            version = sent.change.version
            watcher = Watcher(
                started.feed, Position(version), only=sent.reply.id, audience_version=version
            )
            events = watcher.accepted(sent.prompt, sent.reply)
            await self._follow(watcher, events, context)
        finally:
            self._feeds.close(started.feed)

    async def _follow(self, watcher: Watcher, events: list[bytes], context: Context) -> None:
        scope = principal.get().scope
        check = None
        if isinstance(scope, Viewer):
            conversation_id = watcher.feed.conversation_id
            check = partial(self._db.read, scope, feed.version, conversation_id)
        await follow(watcher, events, context, self._heartbeat_interval, check)

    # --- models -------------------------------------------------------------------------------

    async def ListModels(
        self, _request: api.ListModelsRequest, _context: Context
    ) -> api.ListModelsResponse:
        await self._discovery.refresh()
        catalog = self._discovery.catalog
        default = catalog.default()
        return api.ListModelsResponse(
            models=[
                convert.model(model, is_available=catalog.is_available(model))
                for model in catalog.models
            ],
            default_model=default.id if default else "",
        )

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
