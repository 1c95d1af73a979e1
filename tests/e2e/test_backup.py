"""A backup that is taken while people talk, restored elsewhere: what was accepted before is there,
and what was live is finished."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from colloquy.api import resources_pb2 as resources
from colloquy.operations.sqlite_copy import copy_database
from colloquy_server import process as server_process
from colloquy_server.backup import back_up, restore
from colloquy_server.database import migrate
from colloquy_server.database.migrate import Fit
from colloquy_server.errors import ColloquyError
from colloquy_slack import process as bot_process
from colloquy_slack.database.engine import migrate as migrate_bot

from tests import postgres
from tests.fakes.provider import Answer
from tests.forked import Forked
from tests.harness import Caller, Colloquy, Settled, eventually, settle
from tests.slack_harness import SlackStage, text_of
from tests.uploads import download, upload

pytestmark = pytest.mark.timeout(180)

LEASE_TTL = 2.0
TALKERS = 4
LIVE = 5


@dataclass
class Said:
    """What the server has accepted."""

    prompts: dict[str, str] = field(default_factory=dict)
    """The text of each, by its id."""
    finished: dict[str, str] = field(default_factory=dict)
    """The text of each reply that has ended, by its id."""
    files: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> Said:
        return Said(dict(self.prompts), dict(self.finished), dict(self.files))


async def talk(alice: Caller, name: int, said: Said) -> None:
    """Says one thing after the other, each second one with a file."""
    conversation = await alice.create(title="Backup")
    for number in range(1_000_000):
        data = os.urandom(5_000)
        file = await upload(alice, data) if number % 2 else None
        if file:
            said.files[file.id] = data
        content = f"Talker {name} says {number}"
        stream = alice.send(conversation.id, content, attachment_ids=[file.id] if file else [])
        accepted = await stream.accepted()
        said.prompts[accepted.message.id] = content
        reply = await stream.reply()
        assert reply.state == resources.Message.STATE_COMPLETED
        said.finished[reply.id] = reply.content


async def live_replies(alice: Caller, home: Colloquy) -> list[str]:
    """The ids of replies that have begun and do not end here."""
    home.provider.script(*[Answer(gate_after=5, gate=asyncio.Event()) for _ in range(LIVE)])
    found = []
    for number in range(LIVE):
        conversation = await alice.create(title="Backup")
        stream = alice.send(conversation.id, f"Live {number}")
        found.append((await stream.accepted()).reply.id)
        await stream.until("delta")
    return found


async def words_of(alice: Caller, reply_id: str) -> tuple[int, int]:
    """The state of a reply, and how many words it has."""
    reply = await alice.message(reply_id)
    return reply.state, len(reply.content.split())


async def all_is_there(alice: Caller, said: Said, live: list[str]) -> None:
    """Requires of the restored server what the other one had accepted."""
    whole: tuple[int, int] = (resources.Message.STATE_COMPLETED, Answer().tokens)
    for message_id, content in (said.prompts | said.finished).items():
        assert (await alice.message(message_id)).content == content
    for file_id, data in said.files.items():
        assert (await download(alice, file_id))[1] == data
    for reply_id in live:
        assert await eventually(functools.partial(words_of, alice, reply_id), whole) == whole
    conversation = await alice.create(title="After")
    assert (await alice.send(conversation.id).reply()).state == resources.Message.STATE_COMPLETED


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_a_backup_taken_under_load_has_all_that_was_accepted_before_it(
    tmp_path: Path,
) -> None:
    there, here = places(tmp_path)
    async with Colloquy(there, lease_ttl=LEASE_TTL) as home:
        alice = await home.account("alice")
        live = await live_replies(alice, home)

        async def take() -> None:
            await asyncio.to_thread(back_up, home.settings(), tmp_path / "backup")

        before = await talked(alice, take)
    elsewhere = Colloquy(here, lease_ttl=LEASE_TTL)
    restore(elsewhere.settings(), tmp_path / "backup")
    async with elsewhere:
        await all_is_there(alice.at(elsewhere), before, live)
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


async def test_a_dump_of_postgres_taken_under_load_has_all_that_was_accepted_before_it(
    tmp_path: Path, postgres_server: str, postgres_url: str
) -> None:
    there, here = places(tmp_path)
    programs = postgres.binaries()
    file = str(tmp_path / "dump")
    async with Colloquy(there, postgres_url, lease_ttl=LEASE_TTL) as home:
        alice = await home.account("alice")
        live = await live_replies(alice, home)

        async def take() -> None:
            await run(str(programs / "pg_dump"), "--format=custom", "--file", file, postgres_url)
            unfinished = shutil.ignore_patterns("*#*")
            await asyncio.to_thread(
                shutil.copytree, there / "files", here / "files", ignore=unfinished
            )

        before = await talked(alice, take)
    with postgres.empty_database(postgres_server) as url:
        options = ("--no-owner", "--exit-on-error", "--single-transaction")
        await run(str(programs / "pg_restore"), *options, "--dbname", url, file)
        async with Colloquy(here, url, lease_ttl=LEASE_TTL) as elsewhere:
            await all_is_there(alice.at(elsewhere), before, live)


def places(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a server, and of the one that takes its place."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    return there, here


async def talked(alice: Caller, take: Callable[[], Awaitable[None]]) -> Said:
    """What was accepted before `take` began, while people talk before, during and after it."""
    said = Said()
    talking = [asyncio.create_task(talk(alice, name, said)) for name in range(TALKERS)]
    await settle(lambda: len(said.finished) >= 3 * TALKERS, 60)
    before = said.copy()
    await take()
    meanwhile = len(said.finished)
    await settle(lambda: len(said.finished) >= meanwhile + TALKERS, 60)  # nobody was stopped
    for one in talking:
        one.cancel()
    await asyncio.gather(*talking, return_exceptions=True)
    return before


def is_idle(file: Path) -> bool:
    """Whether a bot has nothing left to do."""
    query = "SELECT count(*) FROM slack_requests WHERE state IN ('new', 'open')"
    with closing(sqlite3.connect(file)) as connection:
        return bool(connection.execute(query).fetchone() == (0,))


async def test_a_restored_bot_goes_on_and_posts_nothing_twice(tmp_path: Path) -> None:
    there, here = places(tmp_path)
    gates = [asyncio.Event(), asyncio.Event()]
    long = [f"Line {number} of a long answer that goes on.\n" for number in range(300)]
    async with (
        Colloquy(there, lease_ttl=LEASE_TTL) as home,
        SlackStage(home, slack_lease_ttl=LEASE_TTL) as stage,
    ):
        done = stage.alice.post(stage.general, "Done before", mention=True)
        await stage.answered(stage.general, done.ts)
        home.provider.script(
            Answer(pieces=long, gate_after=5, gate=gates[0]), Answer(gate_after=0, gate=gates[1])
        )
        begun = stage.alice.post(stage.general, "Begun before", mention=True)
        await stage.slack.wait_for(lambda: stage.reply_messages(stage.general, begun.ts), 30)
        silent = stage.alice.post(stage.general, "Asked before", mention=True)
        await home.provider.wait_for_requests(3)
        asked = (done, begun, silent)
        copy_database(there / "slack.db", tmp_path / "slack.db")
        back_up(home.settings(), tmp_path / "backup")
        forget_posts(tmp_path / "slack.db")  # as if it had been taken before the first
        for gate in gates:
            gate.set()
        for one in asked:
            await stage.answered(stage.general, one.ts, seconds=30)
        await stage.stop()
        await home.stop()

        elsewhere = Colloquy(here, lease_ttl=LEASE_TTL)
        restore(elsewhere.settings(), tmp_path / "backup")
        copy_database(tmp_path / "slack.db", here / "slack.db")
        async with elsewhere:
            stage.colloquy, stage.caller = elsewhere, stage.caller.at(elsewhere)
            elsewhere.provider.default = Answer(pieces=["The other ", "answer."])
            await stage.start(now=lambda: time.time() + 3_600)
            await settle(lambda: is_idle(here / "slack.db"), 60)
            later = stage.alice.post(stage.general, "Asked after", mention=True)
            await stage.answered(stage.general, later.ts, seconds=30)
            for one in (*asked, later):
                messages = stage.reply_messages(stage.general, one.ts)
                *_, reply = await stage.stored(stage.thread(one.ts))
                assert (len(messages), text_of(messages)) == (1, reply.content)
                assert stage.slack.bot_messages(stage.general, one.ts) == messages
            await stage.stop()


def forget_posts(file: Path) -> None:
    """Has a bot's database know nothing of what it posted for what is not done."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "DELETE FROM slack_posts WHERE request_row IN"
            " (SELECT id FROM slack_requests WHERE state IN ('new', 'open'))"
        )
        connection.commit()


async def ends(run: Callable[[], int], folder: Path, **environment: str) -> int:
    """The exit code of a command."""
    with (folder / "output").open("wb") as output:
        process = await Forked.start(
            run,
            environment={"PATH": os.environ["PATH"], **environment},
            folder=folder,
            output=output.fileno(),
        )
        return await process.wait()


async def test_the_commands_write_what_only_their_user_may_read(tmp_path: Path) -> None:
    migrate.upgrade(f"sqlite:///{tmp_path}/data/conversations.db")
    migrate_bot(f"sqlite:///{tmp_path}/data/slack.db")
    bot = {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1"}
    back_up_bot = functools.partial(bot_process.run_backup, Path("bot.db"))
    assert await ends(back_up_bot, tmp_path, **bot) == 0
    assert await ends(back_up_bot, tmp_path, **bot) == 1  # it is there
    new = Path("new")
    assert await ends(functools.partial(server_process.run_backup, new), tmp_path) == 0
    written = [tmp_path / "new", tmp_path / "new" / "conversations.db", tmp_path / "bot.db"]
    assert [path.stat().st_mode & 0o077 for path in written] == [0, 0, 0]
    restore_new = functools.partial(server_process.run_restore, new)
    assert await ends(restore_new, tmp_path) == 1  # a database is there
    (tmp_path / "data" / "conversations.db").unlink()
    assert await ends(restore_new, tmp_path) == 0
    assert migrate.fit(f"sqlite:///{tmp_path}/data/conversations.db") is Fit.CURRENT


def settings(folder: Path) -> Settled:
    return Settled(database_url=f"sqlite:///{folder}/data.db", storage_url=f"file://{folder}/files")


def test_what_cannot_be_backed_up_or_restored_is_told(tmp_path: Path) -> None:
    remote = settings(tmp_path).model_copy(update={"database_url": "postgresql://db/x"})
    for act in back_up, restore:
        with pytest.raises(ColloquyError, match="pg_dump"):
            act(remote, tmp_path / "x")
    (tmp_path / "data.db").write_text("This is no database. " * 100)
    with pytest.raises(OSError, match="not a database"):
        back_up(settings(tmp_path), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ColloquyError, match="is there already"):
        back_up(settings(tmp_path), tmp_path)
    with pytest.raises(ColloquyError, match="is there already: stop the server"):
        restore(settings(tmp_path), tmp_path / "new")
    (tmp_path / "data.db").unlink()
    with pytest.raises(ColloquyError, match="no backup"):
        restore(settings(tmp_path), tmp_path)
