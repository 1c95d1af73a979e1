"""The clients for asyncio.

    async with AsyncConversationClient() as client:
        conversation = await client.create_conversation()
        async with client.send(conversation.id, "Hello") as reply:
            async for event in reply:
                print(event.delta.text, end="")

A stream that breaks is resumed: whoever iterates sees each piece once. The two rules for putting
the pieces together are in `colloquy.follow`, what can be raised in `colloquy.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import grpc
from grpc import aio

from colloquy import calls
from colloquy.aio_base import AsyncBase, AsyncEvents, AsyncReply, Open, method
from colloquy.api import attachment_service_pb2 as attachment_pb
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.admin_service_pb2 import Account, ApiKey
from colloquy.api.resources_pb2 import Attachment, Conversation, Message, User
from colloquy.errors import from_rpc_error
from colloquy.files import Download, Progress, Upload
from colloquy.resume import ReplyResumption, WatchResumption, silence

if TYPE_CHECKING:
    from colloquy.api.attachment_service_pb2_grpc import AttachmentServiceAsyncStub


class AsyncConversationClient(AsyncBase):
    """Conversations, seen by one key."""

    create_conversation = method(calls.create_conversation)
    get_conversation = method(calls.get_conversation)
    list_conversations = method(calls.list_conversations)
    update_conversation = method(calls.update_conversation)
    delete_conversation = method(calls.delete_conversation)
    list_messages = method(calls.list_messages)
    get_message = method(calls.get_message)
    cancel_reply = method(calls.cancel_reply)
    rate_reply = method(calls.rate_reply)
    search_messages = method(calls.search_messages)
    list_models = method(calls.list_models)
    get_attachment = method(calls.get_attachment)

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
        request = calls.send_request(
            conversation_id,
            content,
            attachment_ids=attachment_ids,
            author=author,
            request_id=request_id,
            on_busy=on_busy,
        )
        return self._reply(
            lambda: self._conversations.SendMessage(request, metadata=self._metadata),
            request.request_id,
            timeout,
        )

    def regenerate(
        self,
        message_id: str,
        *,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> AsyncReply:
        """Have a reply made again, by another model if one is given, and follow it like `send`."""
        request = pb.RegenerateReplyRequest(
            message_id=message_id, model=model, request_id=request_id or calls.new_request_id()
        )
        return self._reply(
            lambda: self._conversations.RegenerateReply(request, metadata=self._metadata),
            request.request_id,
            timeout,
        )

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

    def watch(self, conversation_id: str, resume_token: str = "") -> AsyncEvents:
        """Follow a conversation until it is deleted, from a token on or from now.

        Without a token the conversation and every unfinished message come first.
        """
        resumption = WatchResumption(resume_token, self._retry(None), self._silence)

        def open_call() -> aio.UnaryStreamCall[
            pb.WatchConversationRequest, pb.WatchConversationResponse
        ]:
            return self._watch(conversation_id, resumption.token)

        return AsyncEvents(self._events(resumption, open_call))

    def conversations(self, *, participant_external_id: str = "") -> AsyncIterator[Conversation]:
        """Iterate over all conversations, the one with the latest activity first."""
        return self._pages(
            lambda token: calls.list_conversations(
                page_token=token, participant_external_id=participant_external_id
            ),
            lambda page: (page.conversations, page.next_page_token),
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

        `progress` is told how far it is, perhaps in another thread; what it raises ends the upload
        and is raised. Raises OSError when the file cannot be read.
        """
        retry = self._retry(None)
        with await asyncio.to_thread(Upload, source, filename, content_type, progress) as upload:
            while True:
                try:
                    with self._unless_closed():
                        return await self._upload(upload)
                except grpc.RpcError as error:
                    failure = from_rpc_error(error)
                if upload.failure is not None:
                    raise upload.failure
                wait = retry.wait_after(failure)
                if not upload.rewind():
                    raise failure
                await self._wait(wait)

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
                    with self._unless_closed():
                        return await self._download(attachment_id, download)
                except aio.AioRpcError as error:
                    failure = from_rpc_error(error)
                except TimeoutError:
                    failure = silence(self._silence)
                wait = retry.wait_after(failure)
                if not download.again():
                    raise failure
                await self._wait(wait)

    @property
    def _attachments(self) -> AttachmentServiceAsyncStub:
        return cast("AttachmentServiceAsyncStub", self._stubs.attachments)

    def _watch(
        self, conversation_id: str, token: str
    ) -> aio.UnaryStreamCall[pb.WatchConversationRequest, pb.WatchConversationResponse]:
        request = pb.WatchConversationRequest(conversation_id=conversation_id, resume_token=token)
        return self._conversations.WatchConversation(request, metadata=self._metadata)

    def _reply(self, start: Open, request_id: str, timeout: float | None) -> AsyncReply:
        resumption = ReplyResumption(request_id, self._retry(timeout), self._silence)

        def open_call() -> aio.UnaryStreamCall[Any, Any]:
            token = resumption.token
            return start() if token is None else self._watch(resumption.conversation_id, token)

        return AsyncReply(self._events(resumption, open_call), resumption)

    async def _upload(self, upload: Upload) -> Attachment:
        call = self._uploads.UploadAttachment.future(upload.requests(), metadata=self._metadata)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: object) -> None:
            loop.call_soon_threadsafe(ended.set)

        call.add_done_callback(end)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call.result().attachment

    async def _download(self, attachment_id: str, download: Download) -> Attachment:
        request = attachment_pb.DownloadAttachmentRequest(attachment_id=attachment_id)
        call = self._attachments.DownloadAttachment(request, metadata=self._metadata)
        try:
            while (response := await self._read(call, self._silence)) is not aio.EOF:
                await asyncio.to_thread(download.take, response)
            return await asyncio.to_thread(download.finish)
        finally:
            call.cancel()


class AsyncAdminClient(AsyncBase):
    """Accounts and their keys. Its own key is the platform's, by default from ADMIN_API_KEY."""

    _key_variable = "ADMIN_API_KEY"

    create_account = method(calls.create_account)
    list_accounts = method(calls.list_accounts)
    delete_account = method(calls.delete_account)
    create_api_key = method(calls.create_api_key)
    list_api_keys = method(calls.list_api_keys)
    revoke_api_key = method(calls.revoke_api_key)

    def accounts(self) -> AsyncIterator[Account]:
        """Iterate over all accounts, oldest first."""
        return self._pages(
            lambda token: calls.list_accounts(page_token=token),
            lambda page: (page.accounts, page.next_page_token),
        )

    def api_keys(self, account_id: str) -> AsyncIterator[ApiKey]:
        """Iterate over all keys of an account, oldest first, revoked ones too."""
        return self._pages(
            lambda token: calls.list_api_keys(account_id, page_token=token),
            lambda page: (page.api_keys, page.next_page_token),
        )
