"""The bot's settings: what is wrong is named in one line, and no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from colloquy_slack.process import run_bot
from colloquy_slack.settings import Settings, SettingsError, load
from colloquy_slack.workspaces.scopes import SCOPES

BASE = {"slack_bot_token": "xoxb-1", "slack_app_token": "xapp-1"}
OAUTH = {"SLACK_CLIENT_ID": "1", "SLACK_CLIENT_SECRET": "s", "SLACK_SIGNING_SECRET": "s"}
TOKENS = {name.upper(): token for name, token in BASE.items()}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "SLACK_BOT_TOKEN"),
        ({"SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_SIGNING_SECRET"),
        ({"SLACK_CLIENT_ID": "1"}, "SLACK_CLIENT_SECRET"),
        ({**TOKENS, "SLACK_BOT_TOKEN": "xoxe.xoxb-1"}, "token rotation"),
        (OAUTH, "SLACK_ALLOWED_TEAMS"),
        ({**OAUTH, "SLACK_ALLOWED_TEAMS": " , "}, "SLACK_ALLOWED_TEAMS"),
        ({**OAUTH, "SLACK_ALLOWED_TEAMS": "T0123"}, "SLACK_ENCRYPTION_KEY"),
        (
            {
                **OAUTH,
                "SLACK_ALLOWED_TEAMS": "T0123",
                "SLACK_ENCRYPTION_KEY": "k",
                "ADMIN_API_KEY": "what earlier versions took",
            },
            "PROVISIONING_API_KEY .*openssl rand -hex 32.* no longer takes ADMIN_API_KEY",
        ),
        ({"SLACK_BOT_TOKEN": "t", "SLACK_APP_TOKEN": "t", "SLACK_HTTP_ADDRESS": "x"}, "HTTP"),
        ({**TOKENS, "SLACK_PROMETHEUS_ADDRESS": "9464"}, "SLACK_PROMETHEUS_ADDRESS"),
        ({**TOKENS, "SLACK_DATABASE_URL": "postgresql://host:port/x"}, "SLACK_DATABASE_URL"),
        ({**TOKENS, "WEB_URL": "https://chat.example.com/app"}, "WEB_URL"),
        ({**TOKENS, "WEB_URL": "https://chat.example.com|<!channel>"}, "WEB_URL"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    given: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_database_that_cannot_be_reached_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://someone:secret@127.0.0.1:1/slack"
    settings = Settings(**BASE, slack_database_url=url)  # type: ignore[arg-type]
    monkeypatch.setattr("colloquy_slack.settings.load", lambda: settings)
    monkeypatch.setattr("colloquy_slack.logs.configure", lambda _format: None)
    assert run_bot() == 1
    told = capfd.readouterr().err
    assert told.startswith("colloquy: SLACK_DATABASE_URL: ")
    assert told.count("\n") == 1
    assert "secret" not in told


def test_installing_asks_for_what_the_manifest_does() -> None:
    manifest = yaml.safe_load(Path("config/slack_manifest.yml").read_text("utf-8"))
    assert sorted(SCOPES) == manifest["oauth_config"]["scopes"]["bot"]


def test_secrets_are_not_in_the_repr() -> None:
    settings = Settings(**BASE)  # type: ignore[arg-type]
    assert "xoxb" not in repr(settings)
    assert not settings.is_http
