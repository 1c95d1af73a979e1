"""The terminal's part of signing in, against a provider that answers as real ones do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from colloquy.terminal.identity_provider import Client, DeviceCode, Provider, SignInFailed, Tokens

from tests.fakes.identity_provider import CLIENT, IdentityProviderDouble


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProviderDouble]:
    async with IdentityProviderDouble() as running:
        yield running


class Waits:
    """A clock that moves only by waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def clock(self) -> float:
        return sum(self.seconds)


def provider(idp: IdentityProviderDouble, waits: Waits, **client: str) -> Provider:
    whole = {"issuer": idp.issuer, "client_id": CLIENT, **client}
    return Provider(Client(**whole), sleep=waits.sleep, clock=waits.clock)


async def signed_in(idp: IdentityProviderDouble, waits: Waits) -> Tokens:
    asked = provider(idp, waits)
    code = await asyncio.to_thread(asked.device_code)
    return await asyncio.to_thread(asked.wait, code)


async def test_polls_keep_the_pace_that_the_provider_asks_for(idp: IdentityProviderDouble) -> None:
    idp.interval = 3
    idp.answers.extend(["authorization_pending", "slow_down", "authorization_pending", "slow_down"])
    idp.approve(email="mia@acme.example")
    waits = Waits()
    tokens = await signed_in(idp, waits)
    assert tokens.bearer.count(".") == 2
    assert waits.seconds == [3, 3, 8, 8, 13]


async def test_nobody_is_waited_for_longer_than_the_code_holds(idp: IdentityProviderDouble) -> None:
    idp.answers.extend(["authorization_pending"] * 1_000)
    waits = Waits()
    with pytest.raises(SignInFailed, match="nobody signed in in time"):
        await signed_in(idp, waits)
    assert 600 <= sum(waits.seconds) < 610


async def test_a_provider_that_goes_away_meanwhile_is_asked_less_and_less(
    idp: IdentityProviderDouble,
) -> None:
    waits = Waits()
    asked = provider(idp, waits)
    code = await asyncio.to_thread(asked.device_code)
    await idp.stop()
    with pytest.raises(SignInFailed, match="nobody signed in in time"):
        await asyncio.to_thread(asked.wait, code)
    assert waits.seconds == [2.0**n for n in range(len(waits.seconds))]


async def test_tokens_are_renewed_a_minute_before_they_end(idp: IdentityProviderDouble) -> None:
    for lifetime, margin in ((300, 60), (60, 30)):
        idp.lifetime = lifetime
        idp.approve()
        before = time.time()
        tokens = await signed_in(idp, Waits())
        # The token's own seconds are whole ones.
        assert lifetime - 2 <= tokens.expire_time - before <= lifetime + time.time() - before + 2
        assert abs(tokens.expire_time - tokens.refresh_time - margin) <= 2


@pytest.mark.parametrize(
    "discovery",
    [
        {"device_authorization_endpoint": "http://evil.example/device"},
        {"device_authorization_endpoint": "ftp://127.0.0.1/device"},
        {"device_authorization_endpoint": None},
        {"issuer": "https://evil.example"},
    ],
)
async def test_codes_are_asked_for_where_it_is_safe(
    idp: IdentityProviderDouble, discovery: dict[str, Any]
) -> None:
    idp.discovery = discovery
    with pytest.raises(SignInFailed):
        await asyncio.to_thread(provider(idp, Waits()).device_code)
    assert not idp.requests


async def test_a_client_that_the_provider_does_not_know_is_told(
    idp: IdentityProviderDouble,
) -> None:
    with pytest.raises(SignInFailed, match="refuses: invalid_client") as caught:
        await asyncio.to_thread(provider(idp, Waits(), client_id="other").device_code)
    assert caught.value.is_final


async def test_a_redirect_is_not_followed(idp: IdentityProviderDouble) -> None:
    other = IdentityProviderDouble()
    await other.start()
    try:
        idp.discovery = {"token_endpoint": f"{idp.issuer}/moved?to={other.issuer}/token"}
        asked = provider(idp, Waits())
        code = DeviceCode("the-device-code", "", "", 1, 600)
        with pytest.raises(SignInFailed, match="status 307"):
            await asyncio.to_thread(asked.wait, code)
        assert not other.requests
    finally:
        await other.stop()
