"""What `colloquy doctor` looks at of a server: all that it needs, before it starts or beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import yaml
from colloquy.operations.checkup import Finding, fail, ok, warn
from dotenv import dotenv_values

from colloquy_server import settings as settings_module
from colloquy_server.doctor import around, databases, providers
from colloquy_server.files.storage import CONFIG
from colloquy_server.settings import Settings, SettingsError

_OF_LIBRARIES = frozenset(
    {
        *("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"),
        *(name for names in CONFIG.values() for name in names),
    }
)
"""Settings that are read by those who stand behind a provider or a store."""


class ServerCheckup:
    """Of the server whose settings are here."""

    is_due = True

    def __init__(self) -> None:
        from_file = dotenv_values(".env") if Path(".env").is_file() else {}
        self.environ: Mapping[str, str] = {
            **{name: value or "" for name, value in from_file.items()},
            **os.environ,
        }

    @property
    def names(self) -> Collection[str]:
        """All settings, and the variables that the models file names."""
        return known_names()

    async def findings(self) -> AsyncIterator[Finding]:
        """Looks at all of it; without good settings at nothing else."""
        try:
            settings = settings_module.load()
        except SettingsError as error:
            yield fail("settings", error.message, "change them in the environment or in .env")
            return
        yield ok("settings", f"read in {Path.cwd()}")
        for finding in _privacy():
            yield finding
        async for finding in databases.findings(settings):
            yield finding
        async for finding in providers.findings(settings):
            yield finding
        async for finding in around.findings(settings):
            yield finding


def known_names() -> set[str]:
    """The names of all settings that a server, or what it stands on, knows."""
    return {name.upper() for name in Settings.model_fields} | _OF_LIBRARIES | _variables()


def _privacy() -> list[Finding]:
    file = Path(".env")
    if not file.is_file() or not stat.S_IMODE(file.stat().st_mode) & 0o077:
        return []
    return [warn("settings", ".env, which may hold keys, can be read by others", "chmod 600 .env")]


def _variables() -> set[str]:
    """The variables of keys in the models file, as far as it can be read."""
    try:
        read = yaml.safe_load(settings_module.load().models_file.read_text("utf-8"))
        return {str(one.get("api_key_env")) for one in read["providers"].values()}
    except (SettingsError, OSError, ValueError, yaml.YAMLError):
        return set()
    except (KeyError, TypeError, AttributeError):  # of another shape, as is said elsewhere
        return set()
