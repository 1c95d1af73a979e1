"""`sslmode=verify-full`: Postgres is spoken to only when its certificate is by the named CA and for
the named host. Every connection of the server and the bot passes it on."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from colloquy_server.database import migrate
from colloquy_server.database.engine import open_database
from colloquy_server.database.transactions import EVERY_ACCOUNT, Session
from colloquy_server.errors import ColloquyError
from colloquy_server.replies.bus import PostgresBus
from colloquy_slack.database.engine import Database as SlackDatabase
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.harness import settle
from tests.integration.test_tls import Authority
from tests.postgres import Cluster

AUTHORITY = Authority("The database's")
IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class TlsCluster(Cluster):
    """A Postgres with a certificate for localhost."""

    @property
    def knows_tls(self) -> bool:
        """Whether it was built with it; the wheel's was not."""
        command = [str(self._bin / "pg_config"), "--configure"]
        built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return "openssl" in built

    def set_up(self) -> None:
        """Starts it, and lets nobody in without TLS."""
        for name, data in zip(("server.key", "server.crt"), AUTHORITY.issue("db"), strict=True):
            file = self._data / name
            file.write_bytes(data)
            file.chmod(0o600)
            if self._user:
                shutil.chown(file, self._user)
        (self._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write("ssl = on\n")
        self.start()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    cluster = TlsCluster()
    try:
        if not cluster.knows_tls:
            pytest.skip("this Postgres was built without TLS")
        cluster.set_up()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")
    finally:
        cluster.remove()


@pytest.fixture
def address(cluster: Cluster, tmp_path: Path) -> Callable[..., str]:
    """An address of it, by this host name and with this CA."""

    def make(host: str = "localhost", authority: Authority = AUTHORITY) -> str:
        file = tmp_path / f"{id(authority)}.pem"
        file.write_bytes(authority.pem)
        return (
            f"postgresql://colloquy@{host}:{cluster.port}/postgres?hostaddr=127.0.0.1"
            f"&sslmode=verify-full&sslrootcert={quote(str(file))}"
        )

    return make


async def by_server(url: str) -> object:
    database = open_database(url, 1)
    try:
        return await database.read(EVERY_ACCOUNT, encrypted)
    finally:
        await database.close()


def encrypted(session: Session) -> object:
    return session.run(text(IS_ENCRYPTED)).scalar_one()


async def by_migrations(url: str) -> object:
    await asyncio.to_thread(migrate.upgrade, url)
    return await asyncio.to_thread(migrate.fit, url) is migrate.Fit.CURRENT


async def by_bus(url: str) -> object:
    ours, other = PostgresBus(url), PostgresBus(url)
    came = asyncio.Event()
    other.subscribe(lambda _: came.set())
    await asyncio.gather(ours.start(), other.start())
    try:
        await settle(lambda: other.is_up)
        ours.publish({"kind": "test"})
        await came.wait()
    finally:
        await asyncio.gather(ours.stop(), other.stop())
    return True


async def by_bot(url: str) -> object:
    database = SlackDatabase(url)
    try:
        return await database.run(lambda session: session.scalar(text(IS_ENCRYPTED)))
    finally:
        await database.close()


ALL: list[Callable[[str], Awaitable[object]]] = [by_server, by_migrations, by_bus, by_bot]


@pytest.mark.parametrize("connect", ALL)
async def test_every_connection_is_encrypted(
    address: Callable[..., str], connect: Callable[[str], Awaitable[object]]
) -> None:
    assert await connect(address()) is True


@pytest.mark.parametrize("connect", [by_server, by_migrations, by_bot])
async def test_another_host_or_another_authority_is_refused(
    address: Callable[..., str], connect: Callable[[str], Awaitable[object]]
) -> None:
    for url in (address("db.example"), address(authority=Authority("Another"))):
        with pytest.raises((ColloquyError, SQLAlchemyError)):
            await connect(url)


async def test_it_is_refused_for_its_name(address: Callable[..., str]) -> None:
    with pytest.raises(psycopg.OperationalError, match=r'does not match host name "db\.example"'):
        await psycopg.AsyncConnection.connect(address("db.example"))


async def test_nobody_gets_in_without_tls(cluster: Cluster) -> None:
    url = f"postgresql://colloquy@127.0.0.1:{cluster.port}/postgres?sslmode=disable"
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        await psycopg.AsyncConnection.connect(url)
