"""Where events may go: to addresses of the public internet, so that nobody has the server call what
only the server can reach.

A name is looked up when a webhook is made, to say at once what is wrong; and again for each
connection, which goes to the very address that was checked: what a name means may change between.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from colloquy_server.errors import InvalidField

_LOOK_UP_TIMEOUT = 5.0
"""Seconds for a look-up while somebody waits for an answer."""

_LOOK_UPS = 64
"""At a time. They have threads of their own: the loop has few, and names of receivers that nobody
answers for would keep replies from finding their providers."""

_IPV6_PUBLIC = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives out to be reached from everywhere."""

_IPV6_SPECIAL = tuple(
    map(
        ipaddress.IPv6Network,
        # IETF's own with Teredo, documentation, 6to4, documentation: RFC 2928, 3849, 3056, 9637.
        # Teredo and 6to4 hold IPv4 addresses, and nobody needs them any more.
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_IPV4_WITHIN = tuple(
    # Mapped, and what NAT64 makes of one (RFC 6052), by which hosts without IPv4 reach it.
    map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96"))
)
_IPV4_SPECIAL = tuple(
    # IETF's own, and the relays of 6to4: Pythons differ on them.
    map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24"))
)


_look_ups = ThreadPoolExecutor(_LOOK_UPS, "webhook-look-up")


class NotPublic(OSError):
    """An address is inside of where the server runs, or nowhere."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: neither loopback, private, link-local,
    shared (CGNAT), multicast or reserved, nor such an IPv4 address in the dress of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a zone, which only a link-local one has
        return False
    if isinstance(found, IPv6Address):
        if any(found in network for network in _IPV4_WITHIN):
            return _is_public_ipv4(IPv4Address(int(found) & 0xFFFFFFFF))
        return found in _IPV6_PUBLIC and not any(found in each for each in _IPV6_SPECIAL)
    return _is_public_ipv4(found)


def _is_public_ipv4(address: IPv4Address) -> bool:
    is_special = any(address in network for network in _IPV4_SPECIAL)
    return address.is_global and not address.is_multicast and not is_special


async def look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a host. Raises OSError."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_look_ups, ask)
    return [(family, str(address[0])) for family, _, _, _, address in found]


class PublicResolver(AbstractResolver):
    """Finds hosts for connections, if all their addresses are public."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError, and NotPublic if one of them is not."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, address in await _public(host, port)
        ]

    async def close(self) -> None:
        """There is nothing to close."""


async def _public(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    found = await look_up(host, port)
    if not found or not all(is_public(address) for _, address in found):
        raise NotPublic
    return found


def public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for a connection to this very address. Raises NotPublic: no resolver is asked for
    what is an address already."""
    family, kind, proto, _, address = info
    if not is_public(str(address[0])):
        raise NotPublic
    return socket.socket(family, kind, proto)


async def check_url(url: str, *, allow_private: bool) -> None:
    """Whether events may be posted to a URL. Any port will do: who speaks no TLS hears nothing.

    `allow_private` also takes http, and what is inside of where the server runs. Raises
    InvalidField.
    """
    schemes = ("https", "http") if allow_private else ("https",)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port == 0 or re.search(r"[^\x21-\x7e]|[\\#]", url):
        raise _bad("must be a URL like https://example.com/events")
    if parts.scheme not in schemes:
        raise _bad("must begin with https://")
    if "@" in parts.netloc:
        raise _bad("may have no name or password in it")
    if allow_private:
        return
    try:
        async with asyncio.timeout(_LOOK_UP_TIMEOUT):
            await _public(host, port or 443)
    except NotPublic:
        raise _bad("must be an address of the public internet") from None
    except (OSError, UnicodeError):
        raise _bad("names a host that cannot be found") from None


def _bad(what: str) -> InvalidField:
    return InvalidField({"url": what})
