"""The clients for programs without asyncio: what `colloquy.aio` does, one call at a time.

with ConversationClient() as client:
    conversation = client.create_conversation()
    with client.send(conversation.id, "Hello") as reply:
        for event in reply:
            print(event.delta.text, end="")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from colloquy import calls
from colloquy.api import attachment_service_pb2 as attachment_pb
from colloquy.api import conversation_service_pb2 as pb
from colloquy.api.admin_service_pb2 import Account, ApiKey
from colloquy.api.resources_pb2 import Attachment, Conversation, Message, User
from colloquy.ending import Line, Watchdog
from colloquy.errors import from_rpc_error
from colloquy.files import Download, Progress, Upload
from colloquy.resume import ReplyResumption, WatchResumption, silence
from colloquy.sync_base import Events, Open, Reply, SyncBase, method


class ConversationClient(SyncBase):
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
    ) -> Reply:
        """Say something and follow the reply, as `AsyncConversationClient.send` does."""
        request = calls.send_request(
            conversation_id,
            content,
            attachment_ids=attachment_ids,
            author=author,
            request_id=request_id,
            on_busy=on_busy,
        )
        return self._reply(
            lambda: self._stubs.conversations.SendMessage(request, metadata=self._metadata),
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
    ) -> Reply:
        """Have a reply made again, by another model if one is given, and follow it like `send`."""
        request = pb.RegenerateReplyRequest(
            message_id=message_id, model=model, request_id=request_id or calls.new_request_id()
        )
        return self._reply(
            lambda: self._stubs.conversations.RegenerateReply(request, metadata=self._metadata),
            request.request_id,
            timeout,
        )

    def ask(
        self,
        conversation_id: str,
        content: str,
        *,
        attachment_ids: Sequence[str] = (),
        author: User | None = None,
        request_id: str = "",
        timeout: float | None = None,
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
        return reply.result()

    def watch(self, conversation_id: str, resume_token: str = "") -> Events:
        """Follow a conversation until it is deleted, from a token on or from now.

        Without a token the conversation and every unfinished message come first.
        """
        resumption = WatchResumption(resume_token, self._retry(None), self._silence)
        line = Line(self._changed)
        events = self._events(
            resumption, lambda: self._watch(conversation_id, resumption.token), line
        )
        return Events(events, line)

    def conversations(self, *, participant_external_id: str = "") -> Iterator[Conversation]:
        """Iterate over all conversations, the one with the latest activity first."""
        return self._pages(
            lambda token: calls.list_conversations(
                page_token=token, participant_external_id=participant_external_id
            ),
            lambda page: (page.conversations, page.next_page_token),
        )

    def messages(self, conversation_id: str) -> Iterator[Message]:
        """Iterate over all messages, oldest first."""
        return self._pages(
            lambda token: calls.list_messages(conversation_id, page_token=token),
            lambda page: (page.messages, page.next_page_token),
        )

    def search(
        self, query: str, *, conversation_id: str = ""
    ) -> Iterator[pb.SearchMessagesResponse.Hit]:
        """Iterate over all messages that hold the words, newest first."""
        return self._pages(
            lambda token: calls.search_messages(
                query, conversation_id=conversation_id, page_token=token
            ),
            lambda page: (page.hits, page.next_page_token),
        )

    def upload(
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
        with Upload(source, filename, content_type, progress) as upload:
            while True:
                try:
                    with self._unless_closed():
                        response = self._stubs.attachments.UploadAttachment(
                            upload.requests(), metadata=self._metadata
                        )
                except grpc.RpcError as error:
                    failure = from_rpc_error(error)
                else:
                    return response.attachment
                if upload.failure is not None:
                    raise upload.failure
                wait = retry.wait_after(failure)
                if not upload.rewind():
                    raise failure
                self._wait(wait)

    def download(
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
                        return self._download(attachment_id, download)
                except grpc.RpcError as error:
                    failure = from_rpc_error(error)
                except TimeoutError:
                    failure = silence(self._silence)
                wait = retry.wait_after(failure)
                if not download.again():
                    raise failure
                self._wait(wait)

    def _watch(self, conversation_id: str, token: str) -> Any:
        request = pb.WatchConversationRequest(conversation_id=conversation_id, resume_token=token)
        return self._stubs.conversations.WatchConversation(request, metadata=self._metadata)

    def _reply(self, start: Open, request_id: str, timeout: float | None) -> Reply:
        resumption = ReplyResumption(request_id, self._retry(timeout), self._silence)

        def open_call() -> Any:
            token = resumption.token
            return start() if token is None else self._watch(resumption.conversation_id, token)

        line = Line(self._changed)
        return Reply(self._events(resumption, open_call, line), line, resumption)

    def _download(self, attachment_id: str, download: Download) -> Attachment:
        request = attachment_pb.DownloadAttachmentRequest(attachment_id=attachment_id)
        call: Any = self._stubs.attachments.DownloadAttachment(request, metadata=self._metadata)
        try:
            with Watchdog(call) as watchdog:
                for response in watchdog.guard(lambda: self._silence):
                    download.take(response)
            return download.finish()
        finally:
            call.cancel()


class AdminClient(SyncBase):
    """Accounts and their keys. Its own key is the platform's, by default from ADMIN_API_KEY."""

    _key_variable = "ADMIN_API_KEY"

    create_account = method(calls.create_account)
    list_accounts = method(calls.list_accounts)
    delete_account = method(calls.delete_account)
    create_api_key = method(calls.create_api_key)
    list_api_keys = method(calls.list_api_keys)
    revoke_api_key = method(calls.revoke_api_key)

    def accounts(self) -> Iterator[Account]:
        """Iterate over all accounts, oldest first."""
        return self._pages(
            lambda token: calls.list_accounts(page_token=token),
            lambda page: (page.accounts, page.next_page_token),
        )

    def api_keys(self, account_id: str) -> Iterator[ApiKey]:
        """Iterate over all keys of an account, oldest first, revoked ones too."""
        return self._pages(
            lambda token: calls.list_api_keys(account_id, page_token=token),
            lambda page: (page.api_keys, page.next_page_token),
        )
