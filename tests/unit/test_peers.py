"""Whose call it is by its address, and what is remembered of those that fail."""

from __future__ import annotations

import pytest
from colloquy_server.api import failures
from colloquy_server.api.failures import Failures
from colloquy_server.api.peers import caller_address, network_of

PROXY = "ipv4:10.0.0.1:40000"


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "expected"),
    [
        ("ipv4:192.0.2.1:50000", (), 0, "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:50000", (), 0, "2001:db8::1"),
        ("ipv6:[2001:db8::1]:50000", (), 0, "2001:db8::1"),
        ("ipv6:[fe80::1%25eth0]:50000", (), 0, "fe80::1"),
        ("ipv6:[::ffff:192.0.2.1]:50000", (), 0, "192.0.2.1"),
        ("unix:/run/socket", (), 0, ""),
        ("", (), 0, ""),
        (PROXY, ("192.0.2.1",), 0, "10.0.0.1"),
        (PROXY, ("192.0.2.1",), 1, "192.0.2.1"),
        (PROXY, ("made up, 192.0.2.1",), 1, "192.0.2.1"),
        (PROXY, ("made up", b"192.0.2.1"), 1, "192.0.2.1"),
        (PROXY, ("192.0.2.1, 192.0.2.2",), 2, "192.0.2.1"),
        (PROXY, ("192.0.2.1",), 2, "10.0.0.1"),
        (PROXY, ("nonsense",), 1, "10.0.0.1"),
        (PROXY, (), 1, "10.0.0.1"),
    ],
)
def test_a_call_has_the_address_that_the_last_trusted_one_saw(
    peer: str, forwarded: tuple[str | bytes, ...], proxies: int, expected: str
) -> None:
    metadata = [("x-forwarded-for", value) for value in forwarded]
    assert caller_address(peer, metadata, proxies) == expected


def test_who_has_an_address_of_ipv6_has_many() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("::1") != network_of("0:0:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("") == ""


def test_addresses_are_forgotten_that_failed_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_ADDRESSES", 3)
    limits = Failures(per_minute=1)
    for number in range(3):
        assert limits.of(f"192.0.2.{number}").acquire() == 0
    assert limits.of("192.0.2.0").acquire() > 0  # so it failed last
    assert limits.of("192.0.2.3").acquire() == 0
    assert limits.of("192.0.2.0").acquire() > 0
    assert limits.of("192.0.2.1").acquire() == 0
