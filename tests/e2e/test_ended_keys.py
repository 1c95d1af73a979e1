"""Keys that end between the beginning of a call and its request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.api.access import hash_secret
from colloquy_server.database.repository import access as rows
from colloquy_server.database.repository.deletion import begin_leaving
from colloquy_server.database.repository.users import resolve_author
from colloquy_server.database.transactions import EVERY_ACCOUNT

from tests.e2e.test_admin import ask
from tests.fleets import ANY
from tests.harness import Colloquy, settle
from tests.statuses import refused

SERVICE = "/conversation.v1.ConversationService/"
UPLOAD = "/conversation.v1.AttachmentService/UploadAttachment"


@pytest.mark.parametrize(
    "method",
    [f"{SERVICE}{name}" for name in ("WatchConversation", "GetConversation")] + [UPLOAD],
)
async def test_a_call_that_waits_for_its_request_ends_with_its_key(
    colloquy: Colloquy, method: str
) -> None:
    """Else who is about to lose a key begins calls with it, and has them done when it is gone: a
    watch would never end."""
    await colloquy.restart(key_check_interval=0.05, request_timeout=600)
    alice = await colloquy.account()
    conversation = await alice.create()
    made = await ask(
        colloquy,
        "CreateApiKey",
        admin_api.CreateApiKeyRequest(
            account_id=alice.account_id, name="lost", role=admin_api.ApiKey.ROLE_SERVICE
        ),
    )
    is_due = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        await is_due.wait()
        yield api.GetConversationRequest(conversation_id=conversation.id).SerializeToString()

    channel = colloquy.far or colloquy.channel
    stub: Any = channel.stream_stream(method)
    call = stub(late(), metadata=[("authorization", f"Bearer {made.secret}")])
    await settle(lambda: hash_secret(made.secret) in colloquy.apps[-1].access._cache)
    await ask(colloquy, "RevokeApiKey", admin_api.RevokeApiKeyRequest(api_key_id=made.api_key.id))
    async with asyncio.timeout(60):
        refusal = await refused(call.read())
    assert (refusal.status, refusal.reason, refusal.message) == (
        "UNAUTHENTICATED",
        "UNAUTHENTICATED",
        "This API key or token has ended.",
    )
    is_due.set()
    assert not colloquy.apps[-1].access._cache.get(hash_secret(made.secret))


async def test_a_key_that_is_made_while_its_user_is_deleted_is_a_new_users(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would outlive them, and they could never be gone."""
    async with Colloquy(tmp_path, postgres_url) as colloquy:
        alice = await colloquy.account()
        user = resources.User(external_id="mia")
        await colloquy.key(alice.account_id, admin_api.ApiKey.ROLE_MEMBER, user=user)
        resolve, place = resolve_author, f"{rows.__name__}.resolve_author"

        def deleted_meanwhile(*args: Any) -> Any:
            found = resolve(*args)
            monkeypatch.setattr(place, resolve)
            with psycopg.connect(postgres_url) as elsewhere:
                elsewhere.execute(
                    "UPDATE users SET is_leaving = true, external_id = NULL WHERE id = %s",
                    [found.id],
                )
                elsewhere.execute("DELETE FROM api_keys WHERE user_id = %s", [found.id])
            return found

        monkeypatch.setattr(place, deleted_meanwhile)
        mia = await colloquy.key(alice.account_id, admin_api.ApiKey.ROLE_MEMBER, user=user)
        assert (await mia.create()).creator.external_id == "mia"


@ANY
async def test_whose_user_is_gone_is_told_so_and_not_of_a_field_that_nobody_set(
    colloquy: Colloquy,
) -> None:
    """As on a server that deleted nobody, for the seconds for which it still takes the key."""
    colloquy.app.access._interval = 3_600
    alice = await colloquy.account()
    user = resources.User(external_id="mia")
    mia = await colloquy.key(alice.account_id, admin_api.ApiKey.ROLE_MEMBER, user=user)
    conversation = await mia.create()
    user_id = conversation.creator.id
    await colloquy.app.db.write(EVERY_ACCOUNT, begin_leaving, user_id)
    wanted = "UNAUTHENTICATED", "The user of this key or token was deleted."
    for call in (mia.create(), mia.send(conversation.id)):
        refusal = await refused(call)
        assert (refusal.status, refusal.message) == wanted
