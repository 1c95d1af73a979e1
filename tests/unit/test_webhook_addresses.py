"""Which addresses events may go to, and how they are signed."""

from __future__ import annotations

import socket

import pytest
from colloquy_server.errors import InvalidField
from colloquy_server.webhooks import addresses, signing
from colloquy_server.webhooks.addresses import (
    NotPublic,
    PublicResolver,
    check_url,
    is_public,
    public_socket,
)

PUBLIC = [
    "93.184.215.14",
    "1.1.1.1",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "::ffff:93.184.215.14",
    "64:ff9b::5db8:d70e",
]
INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_in_whatever_dress(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1"])
def test_no_socket_is_made_for_an_address_inside(address: str) -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443))
    with pytest.raises(NotPublic):
        public_socket(info)


async def test_a_name_with_one_address_inside_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["93.184.215.14"]

    async def look_up(_host: str, _port: int) -> list[tuple[socket.AddressFamily, str]]:
        return [(socket.AF_INET, address) for address in found]

    monkeypatch.setattr(addresses, "look_up", look_up)
    resolved = await PublicResolver().resolve("x.example", 443)
    assert [each["host"] for each in resolved] == found
    await check_url("https://x.example/", allow_private=False)
    found.append("10.0.0.1")
    with pytest.raises(NotPublic):
        await PublicResolver().resolve("x.example", 443)
    with pytest.raises(InvalidField):
        await check_url("https://x.example/", allow_private=False)
    found.clear()
    with pytest.raises(InvalidField):
        await check_url("https://x.example/", allow_private=False)


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("http://127.0.0.1:8000/events?of=me", True),
        ("https://inside.example/", True),
        ("ftp://127.0.0.1/", False),
        ("http://me@127.0.0.1/", False),
        ("http://127.0.0.1/#part", False),
        ("http://127.0.0.1\\@x.example/", False),
        ("http://127.0.0.1/\r\nX: y", False),
    ],
)
async def test_where_it_is_allowed_http_and_what_is_inside_will_do(
    url: str, is_taken: bool
) -> None:
    if is_taken:
        await check_url(url, allow_private=True)
        return
    with pytest.raises(InvalidField):
        await check_url(url, allow_private=True)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks' own libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = signing.sign(
        secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signing.new_secret() != signing.new_secret()
