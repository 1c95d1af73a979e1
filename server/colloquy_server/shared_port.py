"""A port that the workers of one server share, and nobody else."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Any

_TRIES = 10  # for a free port that is free on all addresses of a name

_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

HTTP_REMEDY = "HTTP_ADDRESS sets another address, or `off`."
"""What to do when the port for HTTP is taken."""

_BACKLOG = 2_048

_Found = tuple[socket.AddressFamily, tuple[Any, ...]]


class SharedPort:
    """Holds a port with sockets that never listen, so that all connections go to the workers.

    With SO_REUSEPORT any process of the same user may listen on the port as well. So it is first
    proved to be free without that option, and then held by a socket without SO_REUSEADDR: whoever
    wants the port for himself, as every server does at its start, is refused by the kernel, also
    while no worker listens.
    """

    def __init__(self, address: str, remedy: str = "") -> None:
        """Takes HOST:PORT; port 0 chooses one.

        Raises OSError when the port is not free, with what can be done then.
        """
        host, _, port = address.rpartition(":")
        self._held = ExitStack()
        try:
            found = _look_up(host.strip("[]"), int(port))
            self.address = f"{host}:{self._hold_any(found) if port == '0' else self._hold(found)}"
        except OSError as error:
            raise _cannot_listen(address, error, remedy) from None

    def close(self) -> None:
        """Lets the port go: it is free when no worker listens any more."""
        self._held.close()

    def _hold_any(self, found: list[_Found]) -> int:
        for _ in range(_TRIES - 1):
            try:
                return self._hold(found)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        return self._hold(found)

    def _hold(self, found: list[_Found]) -> int:
        """Holds one port on all these addresses; returns it."""
        missing: OSError | None = None
        with ExitStack() as held:
            port = 0
            for family, (host, wanted, *rest) in found:
                try:
                    holder = _hold(family, (host, port or wanted, *rest))
                except OSError as error:
                    if error.errno not in _NO_SUCH_FAMILY:
                        raise
                    missing = error  # as ::1, to which localhost leads, on a machine without IPv6
                    continue
                held.enter_context(holder)
                port = holder.getsockname()[1]
            if missing and not port:
                raise missing
            self._held = held.pop_all()
        return port


def listen(address: str, *, shares_port: bool, remedy: str = "") -> list[socket.socket]:
    """Sockets that listen on HOST:PORT, one for each address of the host; port 0 chooses one.

    `shares_port` lets them listen where other workers do. Raises OSError, with what can be done.
    """
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        listeners: list[socket.socket] = []
        chosen = 0
        try:
            for family, (name, wanted, *rest) in _look_up(host.strip("[]"), int(port)):
                listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares_port))
                try:
                    listener.bind((name, chosen or wanted, *rest))
                except OSError as error:
                    if error.errno in _NO_SUCH_FAMILY and chosen:
                        continue
                    raise
                listener.listen(_BACKLOG)
                chosen = listener.getsockname()[1]
                listeners.append(listener)
        except OSError as error:
            raise _cannot_listen(address, error, remedy) from None
        stack.pop_all()
    return listeners


def _cannot_listen(address: str, error: OSError, remedy: str) -> OSError:
    what = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        what = " ".join(part for part in ("is another server running there?", remedy) if part)
    return OSError(f"cannot listen on {address}: {what}")


def _look_up(host: str, port: int) -> list[_Found]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _hold(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # With SO_REUSEADDR connections that ended a moment ago are no hindrance. Those who bind
            # with it may do so at the same time, but only one of them can listen.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(probe.getsockname())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        holder.close()
        raise
    return holder
