"""The double as a process of its own, as benchmarks and chaos tests use it."""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp

from tests.harness import settle

ROOT = Path(__file__).parents[2]


async def test_it_serves_and_logs_every_call(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    command = f"-m tests.fakes.provider --tokens 3 --title-model small --log {log}".split()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        base_url = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as session:
            for model, content in (("big", "hi"), ("small", "hi"), ("big", '[[{"tokens": 1}]]')):
                body = {"model": model, "messages": [{"role": "user", "content": content}]}
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    assert b"data: [DONE]" in await response.read()
        await settle(lambda: log.read_text().count('"ended"') == 3)
    finally:
        process.kill()
        await process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    ended = [line for line in lines if line["event"] == "ended"]
    assert [line["event"] for line in lines[:2]] == ["arrived", "ended"]
    assert [line["text"] for line in ended] == ["r0w0 r0w1 r0w2 ", "A short title", "r2w0 "]
    assert [line["title"] for line in ended] == [False, True, False]
    assert {line["outcome"] for line in ended} == {"completed"}
