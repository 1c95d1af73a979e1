"""The Slack bot under test, between a double of Slack and a real server with its provider's double.

async with SlackStage(colloquy) as stage:
    asked = stage.alice.post(stage.general, "Hello", mention=True)
    await stage.answered(stage.general, asked.ts)
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from colloquy.api import resources_pb2 as resources
from colloquy_slack.app import Bot
from colloquy_slack.database.engine import migrate
from colloquy_slack.outgoing.rendering import METADATA_TYPE
from colloquy_slack.settings import Settings
from pydantic_settings import BaseSettings

from tests import slack_process
from tests.fakes.slack import Channel, Message, Person, SlackDouble, Workspace, shown
from tests.forked import Forked
from tests.harness import PROVISIONING_KEY, Caller, Colloquy
from tests.migrated import make_database

MANIFEST = "config/slack_manifest.yml"


class BotSettings(Settings):
    """Settings of a test: nothing is read from `.env` or from this machine's environment."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], init_settings: Any, **_sources: Any
    ) -> tuple[Any, ...]:
        return (init_settings,)


class SlackStage:
    """All of it, connected over Socket Mode with a token for one workspace."""

    def __init__(self, colloquy: Colloquy, *, clock: Any = None, **settings: Any) -> None:
        self.colloquy = colloquy
        self.slack = SlackDouble(clock=clock) if clock is not None else SlackDouble()
        self.overrides = settings
        self.bot: Bot = None  # type: ignore[assignment]
        self.more: dict[str, Any] = {}
        """Arguments of Bot: its clock, sleep and failpoint."""

    is_started_at_once = True

    async def __aenter__(self) -> Self:
        await self.slack.__aenter__()
        with open(MANIFEST, encoding="utf-8") as file:  # noqa: ASYNC230 - a few lines
            self.slack.use_manifest(yaml.safe_load(file))
        self.caller: Caller = await self.colloquy.account("slack")
        self.general = self.slack.channel("general")
        self.alice = self.slack.person("Alice Smith")
        self.bob = self.slack.person("Bob Jones")
        if self.is_started_at_once:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.slack.__aexit__(None, None, None)

    def settings(self, **more: Any) -> Settings:
        values: dict[str, Any] = {
            "slack_bot_token": self.slack.workspace.bot_token,
            "slack_app_token": self.slack.app.app_token,
            "slack_api_url": self.slack.api_url,
            "slack_database_url": f"sqlite:///{self.colloquy.folder}/slack.db",
            "slack_http_address": "127.0.0.1:0",
            "slack_lease_ttl": 5.0,
            "conversation_address": f"127.0.0.1:{self.colloquy.app.port}",
            "conversation_api_key": self.caller.key,
        }
        return BotSettings(**{**values, **self.overrides, **more})

    async def start(self, **more: Any) -> None:
        settings = self.settings()
        make_database(settings.slack_database_url, migrate)
        self.bot = Bot(settings, **{**self.more, **more})
        await self.bot.start()

    async def stop(self) -> None:
        if self.bot is not None:
            await self.bot.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def reply_messages(self, channel: Channel, ts: str | None = None) -> list[Message]:
        """The bot's messages that show replies, in the order of their parts."""
        found = [
            message
            for message in self.slack.bot_messages(channel, ts)
            if (message.metadata or {}).get("event_type") == METADATA_TYPE
        ]
        return sorted(found, key=lambda message: (_payload(message)["request"], message.ts))

    async def answered(
        self, channel: Channel, ts: str | None = None, *, count: int = 1, seconds: float = 90
    ) -> list[Message]:
        """Waits until so many replies are shown to their end; returns their messages."""

        def ended() -> list[Message] | None:
            messages = self.reply_messages(channel, ts)
            done = [message for message in messages if is_ended(message)]
            return messages if len(done) >= count else None

        found: list[Message] = await self.slack.wait_for(ended, seconds)
        return found

    async def stored(self, external_id: str) -> list[resources.Message]:
        """What the server has of a conversation, by its external_id."""
        conversation = await self.caller.create(external_id=external_id)
        return await self.caller.on(self.colloquy.channel).history(conversation.id)

    def system_prompt(self) -> str:
        """What the model was told before all messages, the last time that it was asked."""
        first = self.colloquy.provider.reply_requests[-1].messages[0]
        return str(first["content"]) if first["role"] in ("system", "developer") else ""

    def thread(self, ts: str, channel: Channel | None = None) -> str:
        """The external_id of a thread's conversation."""
        return f"slack:{self.slack.workspace.id}:{(channel or self.general).id}:{ts}"


class OAuthStage(SlackStage):
    """The bot over HTTP, for workspaces that install it."""

    def settings(self, **more: Any) -> Settings:
        from cryptography.fernet import Fernet

        self.key = getattr(self, "key", Fernet.generate_key().decode())
        values: dict[str, Any] = {
            "slack_bot_token": None,
            "slack_app_token": None,
            "slack_signing_secret": self.slack.app.signing_secret,
            "slack_client_id": self.slack.app.client_id,
            "slack_client_secret": self.slack.app.client_secret,
            "slack_encryption_key": self.key,
            "slack_allowed_teams": self.overrides.get("slack_allowed_teams", "*"),
            "conversation_api_key": None,
            "provisioning_api_key": PROVISIONING_KEY,
        }
        return super().settings(**{**values, **more})

    async def start(self, **more: Any) -> None:
        await super().start(**more)
        self.url = f"http://127.0.0.1:{self.bot.port}"
        self.slack.request_url = f"{self.url}/slack/events"

    async def install(self, workspace: Workspace, *, org: bool = False) -> str:
        """Goes through the pages as a person does; returns the last page. `org`: for all
        workspaces of an organization."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            query = f"team={workspace.id}"
            async with browser.get(f"{self.url}/slack/install?{query}") as page:
                html = await page.text()
                cookies = page.headers.getall("Set-Cookie")
            link = re.findall(r'href="([^"]*authorize[^"]*)"', html)[0].replace("&amp;", "&")
            link += "&org=1" if org else ""
            async with browser.get(link, allow_redirects=False) as page:
                back = page.headers["Location"]
            headers = {"Cookie": cookies[0].partition(";")[0]}
            code = back.partition("?")[2]
            callback = f"{self.url}/slack/oauth_redirect?{code}"
            async with browser.get(callback, headers=headers) as page:
                return await page.text()


def _payload(message: Message) -> dict[str, Any]:
    payload: dict[str, Any] = (message.metadata or {})["event_payload"]
    return payload


def is_ended(message: Message) -> bool:
    """Whether a message shows the end of a reply: one that can be asked for again."""
    labels = [
        element["text"]["text"]
        for block in message.blocks
        if block["type"] == "actions"
        for element in block["elements"]
    ]
    return bool({"Regenerate", "Try again"} & set(labels))


def text_of(messages: list[Message]) -> str:
    """The text that a reply's messages show, joined, without what was added to it."""
    joined = ""
    for message in messages:
        added = _payload(message)
        words = next((block["text"] for block in message.blocks if block["type"] == "markdown"), "")
        joined += words[added["before"] : len(words) - added["after"]]
    return joined


def words_of(message: Message) -> str:
    """What a message says, with its context blocks."""
    return shown(message) + " ".join(
        element["text"]
        for block in message.blocks
        if block["type"] == "context"
        for element in block["elements"]
    )


class BotProcess:
    """The bot as a process of its own, to be killed."""

    def __init__(self, stage: SlackStage) -> None:
        self._stage = stage
        self._process: Forked | None = None
        self.die_at = stage.colloquy.folder / "die_at"
        """Where to write the step at which it kills itself, see tests/slack_process.py."""
        self.log = stage.colloquy.folder / "bot.log"

    async def start(self) -> None:
        settings = self._stage.settings()
        environment = {
            name.upper(): str(value)
            for name, value in settings.model_dump().items()
            if value is not None
        }
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with self.log.open("ab") as log:
            self._process = await Forked.start(
                slack_process.main,
                environment={**inherited, **environment, slack_process.DIE_AT: str(self.die_at)},
                folder=Path.cwd(),
                output=log.fileno(),
            )

    async def died(self, seconds: float = 90) -> int:
        """Waits until it is dead; returns its exit code."""
        assert self._process is not None
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self.died()


__all__ = ["BotProcess", "OAuthStage", "Person", "SlackStage", "text_of", "words_of"]
