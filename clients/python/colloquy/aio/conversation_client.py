"""The client for conversations.

    async with AsyncConversationClient() as client:
        conversation = await client.create_conversation()
        async with client.send(conversation.id, "Hello") as reply:
            async for event in reply:
                print(event.delta.text, end="")

A stream that breaks is resumed: whoever iterates sees each piece once. The two rules for putting
the pieces together are in `colloquy.transcript`, what can be raised in `colloquy.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from colloquy import calls, session_calls
from colloquy.aio.base_client import AsyncBaseClient, method
from colloquy.aio.streams import AsyncEvents, AsyncReply
from colloquy.aio.transport import Stream, run_blocking
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.conversation_service_pb2 import ConversationEvent, ConversationsEvent
from colloquy.api.resources_pb2 import Attachment, Conversation, Message, User
from colloquy.api.session_service_pb2 import Session
from colloquy.errors import ColloquyError
from colloquy.file_transfer import Download, Progress, Upload
from colloquy.resumption import (
    IndexResumption,
    ReplyResumption,
    WatchResumption,
    silence_error,
)


class AsyncConversationClient(AsyncBaseClient):
    """Conversations, seen by one key."""

    create_conversation = method(calls.create_conversation)
    get_conversation = method(calls.get_conversation)
    list_conversations = method(calls.list_conversations)
    update_conversation = method(calls.update_conversation)
    delete_conversation = method(calls.delete_conversation)
    add_participants = method(calls.add_participants)
    remove_participant = method(calls.remove_participant)
    mark_read = method(calls.mark_read)
    list_users = method(calls.list_users)
    list_messages = method(calls.list_messages)
    get_message = method(calls.get_message)
    delete_message = method(calls.delete_message)
    cancel_reply = method(calls.cancel_reply)
    rate_reply = method(calls.rate_reply)
    search_messages = method(calls.search_messages)
    list_models = method(calls.list_models)
    get_usage = method(calls.get_usage)
    get_attachment = method(calls.get_attachment)
    get_session = method(session_calls.get_session)
    list_sessions = method(session_calls.list_sessions)
    revoke_session = method(session_calls.revoke_session)
    create_sign_in_link = method(session_calls.create_sign_in_link)

    def sessions(self, *, user_id: str = "") -> AsyncIterator[Session]:
        """Iterate over the browsers in which the caller's user, or another one, is signed in."""
        return self._pages(
            lambda token: session_calls.list_sessions(user_id=user_id, page_token=token),
            lambda page: (page.sessions, page.next_page_token),
        )

    def send(
        self,
        conversation_id: str,
        content: str,
        *,
        attachment_ids: Sequence[str] = (),
        author: User | None = None,
        request_id: str = "",
        on_busy: pb.OnBusy.ValueType = pb.ON_BUSY_UNSPECIFIED,
        timeout: float | None = None,
    ) -> AsyncReply:
        """Say something and follow the reply.

        Nothing is sent before the first event is asked for. Once `accepted` came it is followed to
        its end, through restarts of the server and breaks of the network, for `timeout` seconds in
        all (DeadlineExceeded) or for as long as it takes. A `request_id` of one's own makes the
        call repeatable from another process.
        """
        call = calls.send_message(
            conversation_id,
            content,
            attachment_ids=attachment_ids,
            author=author,
            request_id=request_id,
            on_busy=on_busy,
        )
        return self._reply(call, call.request.request_id, timeout)

    def regenerate(
        self,
        message_id: str,
        *,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> AsyncReply:
        """Have a reply made again, by another model if one is given, and follow it like `send`."""
        call = calls.regenerate_reply(message_id, model=model, request_id=request_id)
        return self._reply(call, call.request.request_id, timeout)

    async def ask(
        self,
        conversation_id: str,
        content: str,
        *,
        attachment_ids: Sequence[str] = (),
        author: User | None = None,
        request_id: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - `send` needs to know it
    ) -> Message:
        """Say something and return the whole reply; its `state` says whether it failed."""
        reply = self.send(
            conversation_id,
            content,
            attachment_ids=attachment_ids,
            author=author,
            request_id=request_id,
            timeout=timeout,
        )
        return await reply.result()

    def watch(self, conversation_id: str, resume_token: str = "") -> AsyncEvents[ConversationEvent]:
        """Follow a conversation until it is deleted, from a token on or from now.

        Without a token the conversation and every unfinished message come first.
        """
        resumption = WatchResumption(resume_token, self._retry(None), self._silence)
        stream = Stream(self._transport)
        events = self._events(
            stream,
            resumption,
            lambda: calls.watch_conversation(conversation_id, resumption.token),
        )
        return AsyncEvents(stream, events)

    def watch_conversations(self, resume_token: str = "") -> AsyncEvents[ConversationsEvent]:
        """Follow all conversations, from a token on or from now, without end.

        Without a token those with the latest activity come first. An event replaces what is held of
        a conversation or takes it away; `reset` takes all away. Whoever keeps a token keeps the one
        of the last event.
        """
        resumption = IndexResumption(resume_token, self._retry(None), self._silence)
        stream = Stream(self._transport)
        events = self._events(
            stream, resumption, lambda: calls.watch_conversations(resumption.token)
        )
        return AsyncEvents(stream, events)

    def conversations(
        self,
        *,
        participant_external_id: str = "",
        archived: bool | None = None,
        pinned: bool | None = None,
    ) -> AsyncIterator[Conversation]:
        """Iterate over all conversations, the one with the latest activity first: over those that
        are archived or pinned, or are not, or, where None is given, over both."""
        return self._pages(
            lambda token: calls.list_conversations(
                page_token=token,
                participant_external_id=participant_external_id,
                archived=archived,
                pinned=pinned,
            ),
            lambda page: (page.conversations, page.next_page_token),
        )

    def users(self, query: str = "") -> AsyncIterator[User]:
        """Iterate over the account's people by their names, or over those with a word that begins
        like `query`."""
        return self._pages(
            lambda token: calls.list_users(query=query, page_token=token),
            lambda page: (page.users, page.next_page_token),
        )

    def messages(self, conversation_id: str) -> AsyncIterator[Message]:
        """Iterate over all messages, oldest first."""
        return self._pages(
            lambda token: calls.list_messages(conversation_id, page_token=token),
            lambda page: (page.messages, page.next_page_token),
        )

    def search(
        self, query: str, *, conversation_id: str = ""
    ) -> AsyncIterator[pb.SearchMessagesResponse.Hit]:
        """Iterate over all messages that hold the words, newest first."""
        return self._pages(
            lambda token: calls.search_messages(
                query, conversation_id=conversation_id, page_token=token
            ),
            lambda page: (page.hits, page.next_page_token),
        )

    async def upload(
        self,
        source: str | Path | BinaryIO,
        *,
        filename: str = "",
        content_type: str = "",
        progress: Progress | None = None,
    ) -> Attachment:
        """Upload a file, given by its path or open for reading in binary.

        `progress` is called with how far it is, perhaps in another thread; what it raises ends the
        upload and is raised. Raises OSError when the file cannot be read.
        """
        retry = self._retry(None)
        with await run_blocking(Upload, source, filename, content_type, progress) as upload:
            while True:
                try:
                    return await self._transport.upload(upload)
                except ColloquyError as error:
                    failure = error
                if upload.failure is not None:
                    raise upload.failure
                wait = retry.backoff(failure)
                if not upload.rewind():
                    raise failure
                await self._transport.wait(wait)

    async def download(
        self,
        attachment_id: str,
        target: str | Path | BinaryIO,
        *,
        progress: Progress | None = None,
    ) -> Attachment:
        """Download a file to a path, or into a file open for writing in binary.

        Returns what is known of it. Raises OSError when it cannot be written.
        """
        retry = self._retry(None)
        with Download(target, progress) as download:
            while True:
                try:
                    return await self._download(attachment_id, download)
                except ColloquyError as error:
                    failure = error
                except TimeoutError:
                    failure = silence_error(self._silence)
                wait = retry.backoff(failure)
                if not download.restart():
                    raise failure
                await self._transport.wait(wait)

    def _reply(
        self, start: calls.StreamCall[Any, Any], request_id: str, timeout: float | None
    ) -> AsyncReply:
        resumption = ReplyResumption(request_id, self._retry(timeout), self._silence)

        def next_call() -> calls.StreamCall[Any, Any]:
            token = resumption.token
            if token is None:
                return start
            return calls.watch_conversation(resumption.conversation_id, token)

        stream = Stream(self._transport)
        return AsyncReply(stream, self._events(stream, resumption, next_call), resumption)

    async def _download(self, attachment_id: str, download: Download) -> Attachment:
        stream = Stream(self._transport)
        try:
            await stream.open(calls.download_attachment(attachment_id))
            while (answer := await stream.read(self._silence)) is not None:
                await run_blocking(download.write, answer)
            return await run_blocking(download.finish)
        finally:
            stream.cancel()
