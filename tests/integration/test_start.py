"""`colloquy serve` that cannot start says why in one line."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy_server import process as server
from colloquy_server.database.migrate import head

from tests.browser_double import Browser
from tests.forked import Forked
from tests.harness import Caller, Colloquy, ServerProcess
from tests.uploads import upload

pytestmark = pytest.mark.timeout(540)


@pytest.fixture
async def colloquy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """What a server needs to start."""
    async with Colloquy(tmp_path) as running:
        yield running


def environment(**more: str) -> dict[str, str]:
    """What a server knows of its surroundings."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "GRPC_ADDRESS": "127.0.0.1:0",
        "HTTP_ADDRESS": "127.0.0.1:0",
        **more,
    }


def complaint(output: str) -> str:
    """The one line that a server says which does not start."""
    (line,) = output.splitlines()
    return line.removeprefix("colloquy: ")


async def says(folder: Path, settings: Mapping[str, str], workers: int = 1) -> str:
    """What a server that does not start says."""
    with tempfile.TemporaryFile() as output:
        process = await Forked.start(
            functools.partial(server.run_server, workers=workers),
            environment=environment(**settings),
            folder=folder,
            output=output.fileno(),
        )
        assert await process.wait() == 1
        output.seek(0)
        return complaint(output.read().decode())


async def command(folder: Path, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
    """`colloquy serve`, as people start it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "colloquy_server", *arguments),
        cwd=folder,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def children_of(pid: int) -> str:
    """The processes that this one started, as Linux lists them."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return file.read_text() if file.exists() else ""


async def test_a_wrong_setting_stops_the_start_with_one_line(colloquy: Colloquy) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        models = str(colloquy.models_file)
        good = {"AI_MODELS_FILE": models, "DATABASE_URL": colloquy.database_url}
        elsewhere = {"DATABASE_URL": f"sqlite:///{colloquy.folder}/other.db"}
        bad = colloquy.folder / "bad.yml"
        bad.write_text(colloquy.models_file.read_text().replace("api_key_env", "api_key"))
        lines = await asyncio.gather(
            says(colloquy.folder, {**good, "AI_MODELS_FILE": "missing.yml"}),
            says(colloquy.folder, {**good, **elsewhere, "AI_MODELS_FILE": str(bad)}),
            says(colloquy.folder, {**good, "GRPC_ADDRESS": "0.0.0.0:50051", "LEASE_TTL": "x"}),
            says(colloquy.folder, {**good, "GRPC_ADDRESS": f"127.0.0.1:{port}"}),
            says(colloquy.folder, {**good, "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}),
        )
    in_bad = "bad.yml: providers.double.api_key: there is no such field; is api_key_env meant?"
    named = ("missing.yml", in_bad, "LEASE_TTL", f"127.0.0.1:{port}", "DATABASE_URL")
    for line, name in zip(lines, named, strict=True):
        assert name in line


async def test_the_command_ends_with_1_and_one_line_when_it_cannot_start(tmp_path: Path) -> None:
    process = await command(tmp_path, AI_MODELS_FILE="missing.yml")
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert "missing.yml" in complaint(output.decode())


async def test_one_process_serves_and_is_the_one_that_was_started(colloquy: Colloquy) -> None:
    process = await command(
        colloquy.folder,
        AI_MODELS_FILE=str(colloquy.models_file),
        DATABASE_URL=colloquy.database_url,
        LOG_FORMAT="json",
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if b'"event":"serving"' in line:
            break
    assert children_of(process.pid) == ""
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


async def test_workers_that_cannot_start_say_so_in_one_line(
    colloquy: Colloquy, postgres_url: str
) -> None:
    (colloquy.folder / "file").touch()
    on_postgres = {"AI_MODELS_FILE": str(colloquy.models_file), "DATABASE_URL": postgres_url}
    # Most are known at once, the last only to the workers.
    assert "postgresql://" in await says(colloquy.folder, {}, workers=2)
    assert "at least one" in await says(colloquy.folder, {}, workers=0)
    deaf = {**on_postgres, "EVENT_BUS_URL": "memory://"}
    assert "EVENT_BUS_URL" in await says(colloquy.folder, deaf, workers=2)
    no_ports = {**on_postgres, "PROMETHEUS_ADDRESS": "127.0.0.1:65535"}
    assert "PROMETHEUS_ADDRESS" in await says(colloquy.folder, no_ports, workers=2)
    unusable = {**on_postgres, "STORAGE_URL": "file://file/in/a/file"}
    assert "STORAGE_URL" in await says(colloquy.folder, unusable, workers=2)
    assert not (colloquy.folder / "data").exists()


async def test_a_port_that_others_use_is_refused(colloquy: Colloquy, postgres_url: str) -> None:
    good = {"AI_MODELS_FILE": str(colloquy.models_file), "DATABASE_URL": postgres_url}
    alone, several = ServerProcess(colloquy), ServerProcess(colloquy, workers=2, run=None, **good)
    await asyncio.gather(alone.start(), several.start())
    for running in (alone, several):
        lines = await asyncio.gather(
            *(
                says(colloquy.folder, {**good, "GRPC_ADDRESS": running.address}, workers)
                for workers in (1, 2)
            )
        )
        expected = f"cannot listen on {running.address}: is another server running there?"
        assert lines == [expected, expected]
        lines = await asyncio.gather(
            *(
                says(colloquy.folder, {**good, "HTTP_ADDRESS": running.http_address}, workers)
                for workers in (1, 2)
            )
        )
        expected = (
            f"cannot listen on {running.http_address}: is another server running there?"
            " HTTP_ADDRESS sets another address, or `off`."
        )
        assert lines == [expected, expected]
    for running in (alone, several):
        assert await running.end(signal.SIGTERM) == 0


async def open_link(url: str, address: str) -> None:
    """That a link of a development server signs its user in."""
    page, _, code = url.partition("/signin#code=")
    assert page == f"http://{address}"
    async with Browser(page) as browser:
        assert (await browser.sign_in(code=code)).status == 200
        who = await browser.who()
        assert (who["accountName"], who["role"]) == ("Development", "ROLE_SERVICE")


async def test_workers_start_by_the_command_and_share_one_development_key(
    colloquy: Colloquy, postgres_url: str
) -> None:
    process = await command(
        colloquy.folder,
        *("serve", "--dev", "--workers", "2"),
        AI_MODELS_FILE=str(colloquy.models_file),
        DATABASE_URL=postgres_url,
        LOG_FORMAT="json",
    )
    assert process.stdout is not None
    try:
        entries: list[dict[str, Any]] = []
        while not entries or entries[-1]["event"] != "serving":
            entries.append(json.loads(await process.stdout.readline()))
        events = [entry["event"] for entry in entries]
        (confinement,) = [event for event in events if event.startswith("child processes are")]
        assert [event for event in events if event != confinement] == [
            *("development key written", "worker serving", "worker serving", "serving"),
        ]
        key = (colloquy.folder / "data" / "dev.key").read_text().strip()
        serving = entries[-1]
        for channel in (
            colloquy.channel_to(serving["address"]),
            colloquy.http_channel_to(serving["http_address"], "connect-json"),
        ):
            await Caller(channel, key).call("ListModels", api.ListModelsRequest())
        said = json.loads(await process.stdout.readline())
        await open_link(said["url"], serving["http_address"])
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name in ("GRPC_ADDRESS", "HTTP_ADDRESS"):
            assert f"cannot listen on {address}" in await says(tmp_path, {name: address})
    assert os.listdir(tmp_path) == []


async def test_a_second_server_on_a_sqlite_file_is_refused_until_the_first_is_gone(
    colloquy: Colloquy,
) -> None:
    await colloquy.stop()
    first, second = ServerProcess(colloquy), ServerProcess(colloquy)
    await first.start()
    (colloquy.folder / "link.db").symlink_to(colloquy.folder / "conversations.db")
    models = {"AI_MODELS_FILE": str(colloquy.models_file)}
    for url in (colloquy.database_url, f"sqlite:///{colloquy.folder}/link.db"):
        refusal = await says(colloquy.folder, {**models, "DATABASE_URL": url})
        assert "another server serves from" in refusal
        assert "postgresql://" in refusal
    # What only looks at the file, or migrates it, is no server.
    migrating = await command(colloquy.folder, "migrate", DATABASE_URL=colloquy.database_url)
    told, _ = await migrating.communicate()
    assert (migrating.returncode, told.decode()) == (0, f"the database has schema {head()}\n")
    assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    await second.start()
    assert await second.end(signal.SIGTERM) == 0
    await colloquy.start()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_server_without_any_key_says_that_nobody_can_call(
    colloquy: Colloquy, postgres_url: str, workers: int
) -> None:
    process = ServerProcess(colloquy, workers=workers, ADMIN_API_KEY="", DATABASE_URL=postgres_url)
    await process.start()
    (told,) = await process.logged("nobody can call: there is no API key")
    assert "ADMIN_API_KEY" in told["remedy"]
    assert await process.end(signal.SIGTERM) == 0
    with_admin = ServerProcess(colloquy, DATABASE_URL=postgres_url)
    await with_admin.start()
    assert await with_admin.end(signal.SIGTERM) == 0
    assert not any("nobody can call" in line for line in with_admin.lines)


async def test_workers_end_by_sighup_and_a_server_that_is_to_ignore_it_does(
    colloquy: Colloquy, postgres_url: str
) -> None:
    workers = ServerProcess(colloquy, workers=2, DATABASE_URL=postgres_url)
    await workers.start()
    assert await workers.end(signal.SIGHUP) == 0
    ignoring = await asyncio.create_subprocess_exec(
        *("nohup", sys.executable, "-m", "colloquy_server", "serve"),
        cwd=colloquy.folder,
        env=environment(
            AI_MODELS_FILE=str(colloquy.models_file), DATABASE_URL=postgres_url, LOG_FORMAT="json"
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert ignoring.stdout is not None
    async for line in ignoring.stdout:
        if b'"event":"serving"' in line:
            break
    ignoring.send_signal(signal.SIGHUP)
    ignoring.send_signal(signal.SIGTERM)
    output, _ = await ignoring.communicate()
    assert ignoring.returncode == 0
    assert output.count(b'"event":"stopping"') == 1


def modes_of_all(folder: Path) -> dict[str, int]:
    """The permissions of a folder and all that is in it, by their paths."""
    found = (folder, *folder.rglob("*"))
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in found}


async def test_what_is_stored_is_for_its_owner_alone_also_what_was_open(
    colloquy: Colloquy, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir(mode=0o755)
    data = folder / "data"
    for start in range(2):
        process = await command(
            *(folder, "serve", "--dev"),
            AI_MODELS_FILE=str(colloquy.models_file),
            LOG_FORMAT="json",
        )
        assert process.stdout is not None
        address = ""
        async for line in process.stdout:
            entry = json.loads(line)
            if entry["event"] == "serving":
                address = entry["address"]
                break
        said = json.loads(await process.stdout.readline())
        await open_link(said["url"], entry["http_address"])
        caller = Caller(colloquy.channel_to(address), (data / "dev.key").read_text().strip())
        await upload(caller, b"Hello")
        modes = modes_of_all(data)
        assert {"conversations.db-wal", "conversations.db-shm", "conversations.db-lock"} < set(
            modes
        )
        opened = {path: oct(mode) for path, mode in modes.items() if mode & 0o077}
        assert opened == {}, f"start {start}"
        process.kill()  # so that sidecar files stay
        await process.communicate()
        # As earlier versions left them.
        for path in (data, data / "files"):
            path.chmod(0o755)
        for path in data.glob("conversations.db*"):
            path.chmod(0o644)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


async def test_http_is_off_where_it_is_not_wanted(colloquy: Colloquy) -> None:
    await colloquy.restart(http_address="off")
    assert colloquy.app.http_port == 0
    alice = await colloquy.account()
    await alice.create()
