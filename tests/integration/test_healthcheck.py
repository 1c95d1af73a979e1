"""The health check of the image, as the process that Docker runs."""

from __future__ import annotations

import asyncio
import sys

from tests.envoy import DEPLOY
from tests.fleets import ANY
from tests.harness import Colloquy


async def check(port: int, **environment: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(DEPLOY / "healthcheck.py")),
        env={"GRPC_ADDRESS": f"0.0.0.0:{port}", **environment},
    )
    return await process.wait()


@ANY
async def test_it_tells_a_server_that_serves_from_one_that_does_not(colloquy: Colloquy) -> None:
    port = colloquy.app.port
    assert await check(port) == 0
    assert await check(port, TLS_CERT_FILE="cert.pem") == 0
    await colloquy.app.grpc.health.enter_graceful_shutdown()
    assert await check(port) == 1
    await colloquy.stop()
    assert await check(port) == 1
    assert await check(port, TLS_CERT_FILE="cert.pem") == 1
