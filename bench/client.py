"""Calls to the server and to floors whose messages stay bytes, so that the client costs little."""

from __future__ import annotations

from typing import Any

import grpc
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import admin_service_pb2_grpc as admin_grpc
from colloquy.api import attachment_service_pb2_grpc as attachment_grpc
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import conversation_service_pb2_grpc as api_grpc
from colloquy.api import resources_pb2 as resources

from bench.floors import serving
from bench.paced import WrongText
from bench.stage import ADMIN_KEY

CONNECTIONS = 4
"""Between which calls are shared out, as a few front ends would."""

_SERVICE = api.DESCRIPTOR.services_by_name["ConversationService"].full_name


def channels(address: str, count: int = CONNECTIONS) -> list[grpc.aio.Channel]:
    """Connections to an address."""
    # Without a pool of its own a channel would share the connection of the others.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return [grpc.aio.insecure_channel(address, options) for _ in range(count)]


class FloorClient:
    """The methods of a floor."""

    def __init__(self, address: str) -> None:
        self._channels = channels(address)

    def streams(self, method: str) -> list[Any]:
        """A method that streams, on each connection. It takes bytes."""
        return [channel.unary_stream(serving.path(method)) for channel in self._channels]

    def answers(self, method: str) -> Any:
        """A method that answers once. It takes bytes."""
        return self._channels[0].unary_unary(serving.path(method))


class ServerClient:
    """The server's ConversationService, as an account of its own."""

    def __init__(self, address: str, account_id: str, secret: str, connections: int) -> None:
        self.account_id = account_id
        self.secret = secret
        self.metadata = (("authorization", f"Bearer {secret}"),)
        self._channels = channels(address, connections)
        self.attachments: Any = attachment_grpc.AttachmentServiceStub(self._channels[0])
        self.stub: Any = api_grpc.ConversationServiceStub(self._channels[0])

    @classmethod
    async def sign_up(cls, address: str, connections: int = CONNECTIONS) -> ServerClient:
        """Makes an account and a key."""
        (channel,) = channels(address, 1)
        admin: Any = admin_grpc.AdminServiceStub(channel)
        metadata = (("authorization", f"Bearer {ADMIN_KEY}"),)
        account = await admin.CreateAccount(
            admin_api.CreateAccountRequest(name="bench"), metadata=metadata
        )
        key = await admin.CreateApiKey(
            admin_api.CreateApiKeyRequest(
                account_id=account.account.id, name="bench", role=admin_api.ApiKey.ROLE_SERVICE
            ),
            metadata=metadata,
        )
        return cls(address, account.account.id, key.secret, connections)

    def at(self, address: str) -> ServerClient:
        """The same account, at another server."""
        return ServerClient(address, self.account_id, self.secret, len(self._channels))

    def streams(self, method: str) -> list[Any]:
        """A method that streams, on each connection. It takes a request."""
        return [
            channel.unary_stream(
                f"/{_SERVICE}/{method}",
                request_serializer=lambda request: request.SerializeToString(),
            )
            for channel in self._channels
        ]

    def answers(self, method: str) -> Any:
        """A method that answers once. It takes a request that is serialised already."""
        return self._channels[0].unary_unary(f"/{_SERVICE}/{method}")

    async def make_conversations(self, count: int) -> list[str]:
        """Makes conversations; returns their ids. They have titles: none has to be thought of."""
        request = api.CreateConversationRequest(title="Bench")
        made = [
            await self.stub.CreateConversation(request, metadata=self.metadata)
            for _ in range(count)
        ]
        return [response.conversation.id for response in made]


def check_finished(message: bytes, text: str) -> None:
    """Raises WrongText unless the last message of a stream is the finished reply with that text."""
    event = api.SendMessageResponse.FromString(message).event
    state, content = event.message.state, event.message.content
    if state != resources.Message.STATE_COMPLETED or content != text:
        raise WrongText(f"a reply ended in state {state} with {len(content)} characters")
