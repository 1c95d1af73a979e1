"""What was deleted is in no file any more: marked words, written everywhere, and searched byte by
byte below the server's folder, while it runs."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Collection

import pytest
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources
from colloquy_server.database.engine import sync_engine
from sqlalchemy import text

from tests.fakes.provider import Answer
from tests.file_search import in_files
from tests.harness import Caller, Colloquy
from tests.uploads import upload

PROMPT, REPLY, RATING = "Zwölfpromptmark", "Replymarkçed", "Ratingmarkword"
TITLE, SYSTEM, NAME = "Headlinemark", "Systemmarkword", "Personmarkword"
FILE, FILENAME = "Bytesmarkword", "Filenamemark"
SAID = {PROMPT, REPLY, RATING, TITLE, FILE, FILENAME}
KINDS = {
    "message": SAID,
    "conversation": SAID | {SYSTEM},
    "user": SAID | {NAME},
    "account": SAID | {SYSTEM, NAME},
}
STAYS = "Whatstaysmark"

_DELETE_AND_DIE = """
import asyncio, os, signal, sys
from colloquy_server.database.engine import open_database
from colloquy_server.database.repository import conversations, deletion
from colloquy_server.database.transactions import EVERY_ACCOUNT

async def run(url, kind, talk, user):
    db = open_database(url, 1)
    if kind == "conversation":
        await db.write(EVERY_ACCOUNT, conversations.delete, talk)
    else:
        await db.write(EVERY_ACCOUNT, deletion.begin_leaving, user)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run(*sys.argv[1:]))
"""


def in_rows(url: str) -> str:
    """All rows of a Postgres database, as text."""
    engine = sync_engine(url)
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        )
        rows = [
            connection.execute(text(f"SELECT CAST(t AS text) FROM {name} AS t")).scalars()
            for (name,) in tables
        ]
        found = "\n".join(line for table in rows for line in table)
    engine.dispose()
    return found


async def left(colloquy: Colloquy, words: Collection[str]) -> set[str]:
    """Those of the words that are still stored."""
    found = await in_files(colloquy.folder, words)
    if colloquy.database_url.startswith("postgresql"):
        rows = await asyncio.to_thread(in_rows, colloquy.database_url)
        found |= {word for word in words if word in rows or word.lower() in rows}
    return found


async def until_gone(colloquy: Colloquy, words: Collection[str]) -> None:
    while await left(colloquy, words):  # noqa: ASYNC110 - nobody tells of a file
        await asyncio.sleep(0.1)


def person(name: str, display_name: str = "") -> resources.User:
    return resources.User(external_id=name, display_name=display_name)


async def say_everything(colloquy: Colloquy, alice: Caller) -> tuple[str, str, str]:
    """Has Bob say what is to be deleted, and Carol what stays; returns the ids of the
    conversation, of Bob's message and of Bob."""
    provider = colloquy.provider
    provider.title_answer = TITLE
    talk = await alice.create(system_prompt=SYSTEM, model="small-model")
    file = await upload(alice, f"{FILE} {FILE}".encode(), f"{FILENAME}.txt")
    provider.script(Answer(pieces=[f"{REPLY} ", "and ", REPLY]))
    bob = person("bob", NAME)
    stream = alice.send(talk.id, f"{PROMPT} {PROMPT}", author=bob, attachment_ids=[file.id])
    reply = await stream.reply()
    rating = api.RateReplyRequest(
        message_id=reply.id, rating=resources.RATING_BAD, comment=RATING, author=bob
    )
    await alice.call("RateReply", rating)
    await alice.send(talk.id, STAYS, author=person("carol")).reply()
    watch = alice.watch(talk.id)
    await watch.until(lambda e: e.conversation.title == TITLE)
    watch.cancel()
    provider.title_answer = "Another title"
    for word in (PROMPT, REPLY, STAYS):
        while not await hits(alice, word):  # noqa: ASYNC110 - the call has no event
            await asyncio.sleep(0.01)
    # What is rewritten may leave copies of what it was before in other places.
    other = await alice.create()
    for number in range(1, 31):
        await alice.send(
            other.id, f"Filling {number} " * (number * 7), author=person("carol")
        ).rest()
    first = (await alice.history(talk.id))[0]
    return talk.id, first.id, first.author.id


async def hits(caller: Caller, word: str) -> int:
    found = await caller.call("SearchMessages", api.SearchMessagesRequest(query=word))
    return len(found.hits)


async def delete(colloquy: Colloquy, alice: Caller, kind: str, ids: tuple[str, str, str]) -> None:
    talk, message, user = ids
    admin = colloquy.admin
    if kind == "message":
        await alice.call("DeleteMessage", api.DeleteMessageRequest(message_id=message))
    elif kind == "conversation":
        await alice.call("DeleteConversation", api.DeleteConversationRequest(conversation_id=talk))
    elif kind == "user":
        request = admin_api.DeleteUserRequest(user_id=user)
        await admin.admin.DeleteUser(request, metadata=admin.metadata)
    else:
        gone = admin_api.DeleteAccountRequest(account_id=alice.account_id)
        await admin.admin.DeleteAccount(gone, metadata=admin.metadata)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_file_and_no_row_holds_what_was_deleted(
    colloquy: Colloquy, alice: Caller, kind: str
) -> None:
    ids = await say_everything(colloquy, alice)
    everywhere = SAID | {SYSTEM, NAME, STAYS}
    assert await left(colloquy, everywhere) == everywhere
    await delete(colloquy, alice, kind, ids)
    await until_gone(colloquy, KINDS[kind])
    stays = everywhere - KINDS[kind]
    if kind in ("message", "user"):
        assert await left(colloquy, stays) == stays
        assert await hits(alice, STAYS) == 1
    if kind == "account":  # nor is its folder left
        assert list((colloquy.folder / "files").iterdir()) == []


@pytest.mark.parametrize("colloquy", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["conversation", "user"])
async def test_a_server_takes_out_what_the_one_before_it_deleted_and_died(
    colloquy: Colloquy, alice: Caller, kind: str
) -> None:
    talk, _, user = await say_everything(colloquy, alice)
    await colloquy.stop()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _DELETE_AND_DIE, colloquy.database_url, kind, talk, user
    )
    assert await process.wait() == -signal.SIGKILL
    assert await left(colloquy, KINDS[kind])
    await colloquy.start()
    await until_gone(colloquy, KINDS[kind])


@pytest.mark.parametrize("colloquy", ["sqlite"], indirect=True)
async def test_who_reads_for_long_delays_it_but_nobody_else(
    colloquy: Colloquy, alice: Caller
) -> None:
    ids = await say_everything(colloquy, alice)
    engine = sync_engine(colloquy.database_url)
    with engine.connect().execution_options(sqlite_begin="DEFERRED") as reader:
        reader.execute(text("SELECT count(*) FROM messages")).all()
        await delete(colloquy, alice, "message", ids)
        talk = await alice.create()
        await alice.send(talk.id, "Meanwhile").reply()
        assert PROMPT in await left(colloquy, {PROMPT})
    engine.dispose()
    await until_gone(colloquy, KINDS["message"])
