"""`colloquy serve` that cannot start says why in one line."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from colloquy.api import conversation_service_pb2 as api
from colloquy_server import process as server

from tests.forked import Forked
from tests.harness import Caller, Colloquy, ServerProcess

pytestmark = pytest.mark.timeout(180)


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
        **more,
    }


def complaint(output: str) -> str:
    """The one line that a server says which does not start."""
    # gRPC's core, which is not ours to ask, logs a port that is taken by itself.
    lines = [line for line in output.splitlines() if "add_port.cc" not in line]
    assert len(lines) == 1, output
    return lines[0].removeprefix("colloquy: ")


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
        bad = colloquy.folder / "bad.yml"
        bad.write_text(colloquy.models_file.read_text().replace("api_key_env", "api_key"))
        lines = await asyncio.gather(
            says(colloquy.folder, {**good, "AI_MODELS_FILE": "missing.yml"}),
            says(colloquy.folder, {**good, "AI_MODELS_FILE": str(bad)}),
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
    # The first two are known at once, the last only to the workers.
    assert "postgresql://" in await says(colloquy.folder, {}, workers=2)
    assert "at least one" in await says(colloquy.folder, {}, workers=0)
    unusable = {**on_postgres, "STORAGE_URL": "file://file/in/a/file"}
    assert "STORAGE_URL" in await says(colloquy.folder, unusable, workers=2)
    assert not (colloquy.folder / "data").exists()


async def test_a_port_that_others_use_is_refused(colloquy: Colloquy, postgres_url: str) -> None:
    good = {"AI_MODELS_FILE": str(colloquy.models_file), "DATABASE_URL": postgres_url}
    alone, several = ServerProcess(colloquy), ServerProcess(colloquy, workers=2, **good)
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
    for running in (alone, several):
        assert await running.end(signal.SIGTERM) == 0


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
        assert [entry["event"] for entry in entries] == [
            *("development key written", "worker serving", "worker serving", "serving"),
        ]
        key = (colloquy.folder / "data" / "dev.key").read_text().strip()
        caller = Caller(colloquy.channel_to(entries[-1]["address"]), key)
        await caller.call("ListModels", api.ListModelsRequest())
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
