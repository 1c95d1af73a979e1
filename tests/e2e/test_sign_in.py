"""`colloquy login` as a process, against a real server and an identity provider with real keys."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from colloquy import AsyncConversationClient, ConversationClient
from colloquy.api import admin_service_pb2 as admin_api
from colloquy.errors import Unauthenticated

from tests.fakes.identity_provider import AUDIENCE, CLIENT, IdentityProviderDouble
from tests.fleets import ANY
from tests.harness import Colloquy

pytestmark = ANY

RULES = [{"when": {"groups": "staff"}, "account": "acme"}]
MIA: dict[str, Any] = {
    "email": "mia@acme.example",
    "email_verified": True,
    "name": "Mia",
    "groups": ["staff"],
}


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProviderDouble]:
    async with IdentityProviderDouble() as running:
        yield running


class Terminal:
    """Somebody's terminal, in a folder of its own."""

    def __init__(self, colloquy: Colloquy, idp: IdentityProviderDouble, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{colloquy.app.port}"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "CONVERSATION_ADDRESS": self.address,
            "OIDC_ISSUER": idp.issuer,
            "OIDC_CLIENT_ID": CLIENT,
            "OIDC_AUDIENCE": AUDIENCE,
        }

    async def start(self, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "colloquy", *arguments),
            env={**self.environ, **environ},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command."""
        process = await self.start(*arguments, **environ)
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    @property
    def file(self) -> Path:
        return self.folder / "home" / ".config" / "colloquy" / "logins.json"

    def expire(self, *names: str) -> None:
        """Has it be time to renew the tokens, or that they have expired."""
        entries = json.loads(self.file.read_text())
        for entry in entries.values():
            entry["tokens"].update(dict.fromkeys(names, 0))
        self.file.write_text(json.dumps(entries))

    def refresh_token(self) -> str:
        (entry,) = json.loads(self.file.read_text()).values()
        return str(entry["tokens"]["refresh_token"])


@pytest.fixture
async def terminal(colloquy: Colloquy, idp: IdentityProviderDouble, tmp_path: Path) -> Terminal:
    await colloquy.restart(
        oidc_issuer=idp.issuer, oidc_audience=AUDIENCE, oidc_rules=json.dumps(RULES)
    )
    await colloquy.admin.admin.CreateAccount(
        admin_api.CreateAccountRequest(name="Acme", external_id="acme"),
        metadata=colloquy.admin.metadata,
    )
    folder = tmp_path / "terminal"
    folder.mkdir()
    return Terminal(colloquy, idp, folder)


@pytest.mark.timeout(540)  # a dozen processes, one after another
async def test_login_send_expiry_and_refresh(
    terminal: Terminal, idp: IdentityProviderDouble
) -> None:
    process = await terminal.start("login")
    assert process.stderr is not None
    asked = (await process.stderr.readline()).decode()
    expected = f"To sign in, open {idp.issuer}/activate and enter the code WDJB-MJHT\n"
    assert asked == expected
    idp.approve(**MIA)
    _, said = await process.communicate()
    assert (process.returncode, said.count(b"\n")) == (0, 1)
    assert idp.requests[0] == (
        "/device",
        {"client_id": CLIENT, "scope": "openid profile email offline_access", "audience": AUDIENCE},
    )
    assert stat.S_IMODE(terminal.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(terminal.file.parent.stat().st_mode) == 0o700

    code, output, errors = await terminal.run("send", "Hello")
    assert (code, errors) == (0, "")
    assert output
    assert [path for path, _ in idp.requests].count("/token") == 1, "the token holds"

    before = terminal.refresh_token()
    terminal.expire("refresh_time")
    # Two at once: a refresh token holds once, so the second takes what the first one got.
    results = await asyncio.gather(*(terminal.run("send", "Hello") for _ in range(2)))
    assert [(code, errors) for code, _, errors in results] == [(0, "")] * 2
    refreshes = [form for _, form in idp.requests if form.get("grant_type") == "refresh_token"]
    assert [form["refresh_token"] for form in refreshes] == [before]
    assert terminal.refresh_token() in idp.refreshes
    assert stat.S_IMODE(terminal.file.stat().st_mode) == 0o600

    # A provider that is down costs nothing while the token holds, and one line afterwards.
    await idp.stop()
    terminal.expire("refresh_time")
    assert (await terminal.run("send", "Hello"))[0] == 0
    terminal.expire("refresh_time", "expire_time")
    code, _, errors = await terminal.run("send", "Hello")
    assert (code, errors.count("\n")) == (1, 1)
    assert "cannot be reached" in errors
    await idp.start()
    idp.refreshes.clear()
    code, _, errors = await terminal.run("send", "Hello")
    assert (code, errors.count("\n")) == (1, 1)
    assert "run `colloquy login`" in errors

    # A key that is set wins.
    code, _, errors = await terminal.run("send", "Hello", CONVERSATION_API_KEY="colloquy_wrong")
    assert "does not accept the key" in errors

    code, _, errors = await terminal.run("logout")
    assert (code, errors) == (0, f"Signed out of http://{terminal.address}\n")
    code, _, errors = await terminal.run("send", "Hello")
    assert (code, errors.count("\n")) == (1, 1)
    assert "no API key" in errors


async def test_a_token_goes_to_no_other_server(
    terminal: Terminal, idp: IdentityProviderDouble
) -> None:
    idp.approve(**MIA)
    assert (await terminal.run("login"))[0] == 0
    for address in ("localhost:1", "127.0.0.1:1", f"https://{terminal.address}"):
        code, _, errors = await terminal.run("send", "Hello", CONVERSATION_ADDRESS=address)
        assert (code, "no API key" in errors) == (1, True), errors


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("access_denied", "error: signing in was denied\n"),
        ("expired_token", "error: nobody signed in in time: begin again\n"),
        ("invalid_grant", "error: the identity provider refuses: invalid_grant\n"),
    ],
)
async def test_a_login_that_fails_is_one_line(
    terminal: Terminal, idp: IdentityProviderDouble, answer: str, said: str
) -> None:
    idp.answers.extend(["authorization_pending", answer])
    code, _, errors = await terminal.run("login")
    assert (code, errors.partition("\n")[2]) == (1, said)
    assert not terminal.file.exists()


async def test_what_is_missing_is_named(terminal: Terminal) -> None:
    code, _, errors = await terminal.run("login", OIDC_ISSUER="")
    assert (code, "OIDC_ISSUER" in errors) == (2, True)
    code, _, errors = await terminal.run("login", OIDC_ISSUER="http://login.example.com")
    assert (code, errors.count("\n")) == (1, 1)
    assert "is not an https:// address" in errors
    code, _, errors = await terminal.run("logout")
    assert (code, errors) == (0, f"You are not signed in for http://{terminal.address}\n")


async def test_the_sync_client_goes_on_with_the_next_token_too(
    terminal: Terminal, idp: IdentityProviderDouble, colloquy: Colloquy
) -> None:
    tokens = [idp.token(**MIA, jti="first"), idp.token(**MIA, jti="second")]
    access: Any = colloquy.app.access
    loop = asyncio.get_running_loop()

    def talk() -> None:
        with ConversationClient(terminal.address, lambda: tokens[0]) as client:
            conversation = client.create_conversation()
            with client.watch(conversation.id) as events:
                next(events)
                del tokens[0]
                loop.call_soon_threadsafe(access._forget, lambda known: True)
                client.ask(conversation.id, "Hello")
                for event in events:
                    if event.HasField("message") and event.message.content == "Hello":
                        break
            file = terminal.folder / "note.txt"
            file.write_text("a note")
            assert client.upload(file).byte_size == 6

    await asyncio.to_thread(talk)


async def test_a_watch_ends_when_there_is_no_other_token(
    terminal: Terminal, idp: IdentityProviderDouble, colloquy: Colloquy
) -> None:
    token = idp.token(**MIA)
    access, identity = colloquy.app.access, colloquy.app.identity
    assert identity is not None
    async with AsyncConversationClient(terminal.address, lambda: token) as client:
        conversation = await client.create_conversation()
        async with client.watch(conversation.id) as events:
            await anext(events)
            identity.now = lambda: time.time() + 3_600
            access._forget(lambda known: True)
            with pytest.raises(Unauthenticated):
                async for _ in events:
                    pass


async def test_a_program_gives_a_function_and_goes_on_when_a_token_ends(
    terminal: Terminal, idp: IdentityProviderDouble, colloquy: Colloquy
) -> None:
    """A watch goes on with the next token when the server ends the one of before."""
    tokens = [idp.token(**MIA, jti="first"), idp.token(**MIA, jti="second")]
    given: list[str] = []

    def token() -> str:
        given.append(tokens[0])
        return tokens[0]

    async with AsyncConversationClient(terminal.address, token) as client:
        conversation = await client.create_conversation()
        async with client.watch(conversation.id) as events:
            await anext(events)
            del tokens[0]
            access: Any = colloquy.app.access
            access._forget(lambda known: True)  # as when it has expired
            await client.ask(conversation.id, "Hello")
            async for event in events:
                if event.HasField("message") and event.message.content == "Hello":
                    break
    assert len(set(given)) == 2
