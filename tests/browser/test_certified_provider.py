"""Signing in at a real OpenID Connect provider, the certified one of Node's packages."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest_asyncio
from colloquy.api import admin_service_pb2 as admin_api

from tests.browser.shared_browser import SHARED_LOOP
from tests.browser_double import Browser
from tests.fleets import ALONE
from tests.harness import Colloquy

pytestmark = SHARED_LOOP

ROOT = Path(__file__).resolve().parents[2]
PAGE, SECRET = "colloquy-page", "the-secret-of-the-page"
WEB_URL = "http://127.0.0.1:9"
"""Where the provider sends browsers back to; the test brings them to the server's own port."""


@pytest_asyncio.fixture(loop_scope="session")
async def issuer() -> AsyncIterator[str]:
    """The provider, as long as the test lasts."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "node",
        ROOT / "clients/tools/identity_provider.ts",
        *(PAGE, SECRET, f"{WEB_URL}/signin/callback"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip()
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


async def at_the_provider(url: str, name: str) -> str:
    """Signs in and agrees there; returns where the browser is sent then."""
    jar = aiohttp.CookieJar(unsafe=True)  # of a host that is an address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        form: dict[str, str] | None = None
        for _ in range(20):
            asked = session.post(url, data=form, allow_redirects=False) if form else None
            async with asked or session.get(url, allow_redirects=False) as response:
                text = await response.text()
                if response.status in (302, 303):
                    url, form = urljoin(str(response.url), response.headers["location"]), None
                    if url.startswith(WEB_URL):
                        return url
                    continue
                assert response.status == 200, text
            action = re.search(r'<form[^>]* action="([^"]+)"', text)
            prompt = re.search(r'name="prompt" value="(\w+)"', text)
            assert action is not None
            assert prompt is not None
            url = action[1]
            form = {"prompt": prompt[1], "login": name, "password": "any"}
    raise AssertionError("the provider leads nowhere")


@ALONE
async def test_somebody_signs_in_at_a_certified_provider(colloquy: Colloquy, issuer: str) -> None:
    await colloquy.restart(
        web_url=WEB_URL,
        oidc_issuer=issuer,
        oidc_audience="colloquy",
        oidc_client_id=PAGE,
        oidc_client_secret=SECRET,
        oidc_rules=json.dumps([{"when": {"email_domain": "acme.example"}, "account": "acme"}]),
    )
    await colloquy.admin.admin.CreateAccount(
        admin_api.CreateAccountRequest(name="Acme", external_id="acme"),
        metadata=colloquy.admin.metadata,
    )
    async with Browser(f"http://127.0.0.1:{colloquy.app.http_port}") as browser:
        for name, status in (("mia@acme.example", 303), ("eve@evil.example", 403)):
            left = await browser.ask("GET", "/signin/identity-provider?return_to=/c/1")
            came = await at_the_provider(left.headers["location"], name)
            kept = dict(browser.cookies)
            back = await browser.ask("GET", came.removeprefix(WEB_URL))
            assert back.status == status, back.text
            if status == 303:
                assert back.headers["location"] == "/c/1"
                assert (await browser.who())["user"]["displayName"] == "mia"
                browser.cookies = kept
                again = await browser.ask("GET", came.removeprefix(WEB_URL))
                assert again.status == 401, "the provider takes a code once"
