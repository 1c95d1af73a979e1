"""What `colloquy doctor` looks at of the bot: its tokens, its database, and the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import aiohttp
from colloquy import AsyncConversationClient, ColloquyError
from colloquy.operations.checkup import Finding, fail, ok, warn
from pydantic_settings import BaseSettings, SettingsConfigDict
from slack_sdk.web.async_client import AsyncWebClient
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack import settings as settings_module
from colloquy_slack.database.engine import Database
from colloquy_slack.settings import Settings, SettingsError
from colloquy_slack.slack_api import TIMEOUT, InDoubt, RateLimited, SlackApi, SlackError
from colloquy_slack.workspaces.encryption import Cipher
from colloquy_slack.workspaces.scopes import missing_scopes

_PATIENCE = 5.0
"""Seconds that Slack and the server get when they are busy."""


class _Signs(BaseSettings):
    """What nobody sets who runs no bot."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    slack_bot_token: str | None = None
    slack_app_token: str | None = None
    slack_client_id: str | None = None
    slack_signing_secret: str | None = None


class SlackCheckup:
    """Of the bot whose settings are here."""

    environ: Mapping[str, str] = os.environ
    names: Collection[str] = frozenset(name.upper() for name in Settings.model_fields)

    @property
    def is_due(self) -> bool:
        """Whether there is anything of Slack's in the settings."""
        return any(_Signs().model_dump().values())

    async def findings(self) -> AsyncIterator[Finding]:
        """Looks at all of it; without good settings at nothing else."""
        try:
            settings = settings_module.load()
            if settings.slack_encryption_key:
                Cipher(settings.slack_encryption_key)
        except SettingsError as error:
            yield fail("Slack settings", str(error), "see docs/slack.md")
            return
        yield ok("Slack settings", "are whole")
        yield _is_missing(settings) or await _database(settings)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            if settings.slack_bot_token:
                yield await _bot_token(settings, session)
            if settings.slack_app_token:
                yield await _app_token(settings, session)
        if settings.conversation_api_key:
            yield await _server(settings)


def _api(settings: Settings, session: aiohttp.ClientSession, token: str) -> SlackApi:
    client = AsyncWebClient(
        token=token, base_url=settings.slack_api_url, session=session, retry_handlers=[]
    )
    return SlackApi(client, asyncio.sleep)


async def _bot_token(settings: Settings, session: aiohttp.ClientSession) -> Finding:
    what = "Slack bot token"
    slack = _api(settings, session, settings.slack_bot_token or "")
    try:
        bot = await slack.read_with_retries("auth.test", _PATIENCE)
    except SlackError as error:
        return _failed(what, error, "SLACK_BOT_TOKEN")
    if missing := missing_scopes(slack.scopes):
        said = f"it lacks {', '.join(missing)}"
        return warn(what, said, "bring the app's manifest up to date and install it again")
    return ok(what, f"opens the workspace {bot.get('team')} as {bot.get('user')}")


async def _app_token(settings: Settings, session: aiohttp.ClientSession) -> Finding:
    what = "Slack app token"
    slack = _api(settings, session, settings.slack_app_token or "")
    try:
        await slack.call_with_retries("apps.connections.open", _PATIENCE)
    except SlackError as error:
        return _failed(what, error, "SLACK_APP_TOKEN")
    return ok(what, "opens a connection")


def _failed(what: str, error: SlackError, setting: str) -> Finding:
    if isinstance(error, InDoubt | RateLimited):
        remedy = "see that this machine reaches Slack (SLACK_API_URL), and try again"
        return fail(what, f"Slack did not say whether it takes it: {error}", remedy)
    return fail(what, f"Slack does not take it: {error}", f"see {setting}")


def _is_missing(settings: Settings) -> Finding | None:
    url = make_url(settings.slack_database_url)
    if url.get_backend_name() != "sqlite" or Path(url.database or "").exists():
        return None
    said = f"{url.database} is not there yet: the bot makes it at its first start"
    return ok("Slack database", said)


async def _database(settings: Settings) -> Finding:
    what = "Slack database"
    db = Database(settings.slack_database_url)
    try:
        await db.run(lambda s: s.execute(text("SELECT 1")).scalar_one())
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        return fail(what, why, "see SLACK_DATABASE_URL")
    finally:
        await db.close()
    return ok(what, "answers")


async def _server(settings: Settings) -> Finding:
    what = "Slack bot's server"
    try:
        async with AsyncConversationClient(
            settings.conversation_address,
            settings.conversation_api_key,
            patience=_PATIENCE,
            timeout=_PATIENCE,
        ) as client:
            await client.list_models()
    except ColloquyError as error:
        remedy = "see CONVERSATION_ADDRESS and CONVERSATION_API_KEY; the server has to run"
        return fail(what, str(error), remedy)
    return ok(what, "answers, and takes the key")
