"""`python -m server` that cannot start says why in one line."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Colloquy, ServerProcess


@pytest.fixture
async def colloquy(tmp_path: Path) -> AsyncIterator[Colloquy]:
    """What a server needs to start."""
    async with Colloquy(tmp_path) as running:
        yield running


async def says(folder: Path, **environment: str) -> str:
    """What a server that does not start says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "server",
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "GRPC_ADDRESS": "127.0.0.1:0",
            **environment,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 1, output.decode()
    # gRPC's core, which is not ours to ask, logs a port that is taken by itself.
    lines = [line for line in output.decode().splitlines() if "add_port.cc" not in line]
    assert len(lines) == 1, output.decode()
    return lines[0].removeprefix("colloquy: ")


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
        lines = await asyncio.gather(
            says(colloquy.folder, **{**good, "AI_MODELS_FILE": "missing.yml"}),
            says(colloquy.folder, **{**good, "GRPC_ADDRESS": "0.0.0.0:50051", "LEASE_TTL": "x"}),
            says(colloquy.folder, **{**good, "GRPC_ADDRESS": f"127.0.0.1:{port}"}),
            says(colloquy.folder, **{**good, "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}),
        )
    named = ("missing.yml", "LEASE_TTL", f"127.0.0.1:{port}", "DATABASE_URL")
    for line, name in zip(lines, named, strict=True):
        assert name in line


async def test_one_process_serves_and_is_the_one_that_was_started(colloquy: Colloquy) -> None:
    process = ServerProcess(colloquy)
    await process.start()
    assert children_of(process.pid) == ""
    assert await process.end() != 0
