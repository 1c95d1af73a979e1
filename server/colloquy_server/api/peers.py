"""From which address a call came."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

Metadata = Iterable[tuple[str, str | bytes]]
"""The headers of a call, their names in small letters."""

_FORWARDED = "x-forwarded-for"

_IPV6_PREFIX = 64
"""Bits: whoever has one IPv6 address has this network of them."""


def caller_address(peer: str, metadata: Metadata, proxies: int) -> str:
    """The address that a call came from, without a port; empty when it has none, as by a socket.

    `peer` is like ipv4:127.0.0.1:50000, with what is special in it percent-encoded.

    `proxies` is how many stand before the server, of which each adds to x-forwarded-for whom it
    was called by. What stands further left the caller may have made up.
    """
    forwarded = ""
    if proxies:
        values = (v for k, v in metadata if k == _FORWARDED)
        forwarded = ",".join(v if isinstance(v, str) else v.decode("latin-1") for v in values)
    return _address(peer, forwarded, proxies)


@lru_cache(4_096)
def _address(peer: str, forwarded: str, proxies: int) -> str:
    entries = forwarded.split(",") if forwarded else []
    if 0 < proxies <= len(entries):
        found = _parsed(entries[-proxies].strip())
        if found is not None:
            return str(found)
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return str(_parsed(unquote(rest).rpartition(":")[0].strip("[]")) or "")


@lru_cache(4_096)
def network_of(address: str) -> str:
    """What an address has in common with the others of whoever has it: IPv6 by its /64."""
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found), _IPV6_PREFIX), strict=False))
    return address


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # without an interface
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
