"""A port that is held for workers, by sockets that never listen."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from colloquy_server.shared_port import SharedPort


@pytest.fixture
def port() -> Iterator[SharedPort]:
    """A port that is held."""
    with closing(SharedPort("127.0.0.1:0")) as held:
        yield held


def listen(port: SharedPort, *, shares: bool) -> socket.socket:
    """Listens there, as a worker, which shares the port, or as any other server."""
    host, _, number = port.address.rpartition(":")
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        listener.bind((host, int(number)))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def ends(listener: socket.socket) -> None:
    """Serves one connection, which the server closes first: it stays in TIME_WAIT."""
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0]:
        pass


def test_it_has_the_port_that_it_chose(port: SharedPort) -> None:
    host, _, number = port.address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(number) > 0


def test_all_connections_go_to_the_workers(port: SharedPort) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(listen(port, shares=True)) for _ in range(2)]
        reached: set[socket.socket] = set()
        while len(reached) < 2:
            stack.enter_context(socket.create_connection(workers[0].getsockname()))
            ready, _, _ = select.select(workers, [], [])
            for worker in ready:
                worker.accept()[0].close()
            reached.update(ready)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_nobody_else_gets_it(port: SharedPort, workers: int) -> None:
    with ExitStack() as listening:
        for _ in range(workers):
            listening.enter_context(listen(port, shares=True))
        with pytest.raises(OSError, match="in use"):
            listen(port, shares=False)
        with pytest.raises(OSError, match="is another server running there"):
            SharedPort(port.address)


def test_what_another_server_has_cannot_be_held(port: SharedPort) -> None:
    port.close()
    with (
        listen(port, shares=False),
        pytest.raises(OSError, match=f"cannot listen on {port.address}: is another server"),
    ):
        SharedPort(port.address)


def test_of_two_that_try_at_once_one_gets_it(
    port: SharedPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    port.close()
    got_it: list[SharedPort] = []

    class Overtaken(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            monkeypatch.undo()
            if not got_it:
                got_it.append(SharedPort(port.address))

    monkeypatch.setattr(socket, "socket", Overtaken)
    with pytest.raises(OSError, match="is another server running there"):
        SharedPort(port.address)
    got_it.pop().close()


def test_an_address_that_a_name_leads_to_twice_is_held_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*found, *found])
    SharedPort("twice.example:0").close()


@pytest.mark.parametrize("shares", [False, True])
def test_connections_that_have_ended_do_not_keep_it(port: SharedPort, shares: bool) -> None:
    """A server that starts again at once, with more or fewer workers."""
    if not shares:
        port.close()
    ends(listen(port, shares=shares))
    port.close()
    with closing(SharedPort(port.address)) as again:
        assert again.address == port.address
        listen(again, shares=True).close()


def test_a_name_is_held_on_all_its_addresses() -> None:
    with closing(SharedPort("localhost:0")) as port:
        assert port.address.startswith("localhost:")
        with pytest.raises(OSError, match="is another server running there"):
            SharedPort("127.0.0.1:" + port.address.rpartition(":")[2])


def test_an_address_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:50051: .*[Aa]ssign"):
        SharedPort("192.0.2.1:50051")
