"""The example of a .env file names every setting, with the default that holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from colloquy_server.settings import Settings
from colloquy_slack.settings import Settings as SlackSettings

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
# Settings of others: the OpenAI SDK's own, the keys of providers, and the clients'.
OTHERS = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"}
OTHERS |= {"ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY"}
OTHERS |= {"OIDC_SCOPE"}  # of `colloquy login`
CLIENTS = "CONVERSATION_"
SLACK = "SLACK_"

lines = re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE.read_text("utf-8"), re.MULTILINE)
shown = dict(lines)


def test_no_setting_is_named_twice() -> None:
    assert [name for name, _ in lines] == list(shown)


def test_every_setting_is_named_and_no_other() -> None:
    not_the_servers = (CLIENTS, SLACK)
    own = {name for name in shown if name not in OTHERS and not name.startswith(not_the_servers)}
    assert own == {name.upper() for name in Settings.model_fields}
    slacks = {name for name in shown if name.startswith(SLACK)}
    assert slacks == {
        name.upper() for name in SlackSettings.model_fields if name.upper().startswith(SLACK)
    }


@pytest.mark.parametrize("name", [name for name in shown if name.startswith(SLACK)])
def test_the_default_of_the_slack_bot_is_shown(name: str) -> None:
    default = SlackSettings.model_fields[name.lower()].default
    assert shown[name] == ("" if default in (None, False) else str(default))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_default_is_shown(name: str) -> None:
    default = Settings.model_fields[name].default
    assert shown[name.upper()] == ("" if default is None or default is False else str(default))
