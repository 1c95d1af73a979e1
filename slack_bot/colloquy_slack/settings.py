"""Every setting of the Slack bot, read from the environment and `.env` in this one place."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

# What the server takes, too; and nothing that would end a link of Slack's.
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")


class SettingsError(Exception):
    """A setting is wrong; the message is one line for people."""


class Settings(BaseSettings):
    """Field names in capitals are the names of the environment variables; times are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    slack_bot_token: str | None = Field(default=None, repr=False)
    slack_app_token: str | None = Field(default=None, repr=False)
    slack_signing_secret: str | None = Field(default=None, repr=False)
    slack_client_id: str | None = None
    slack_client_secret: str | None = Field(default=None, repr=False)
    slack_api_url: str = "https://slack.com/api/"
    slack_database_url: str = "sqlite:///data/slack.db"
    slack_allowed_teams: str | None = None
    slack_encryption_key: str | None = Field(default=None, repr=False)
    slack_http_address: str = "127.0.0.1:3000"
    slack_native_streaming: bool = False
    slack_lease_ttl: Annotated[float, Field(gt=0, le=3_600)] = 10
    slack_erase_after_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    conversation_address: str | None = None
    conversation_api_key: str | None = Field(default=None, repr=False)
    provisioning_api_key: str | None = Field(default=None, repr=False)
    web_url: str = ""
    slack_prometheus_address: str | None = None
    otel_exporter_otlp_endpoint: str | None = None
    log_format: Literal["console", "json"] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_means_unset(cls, value: object, info: Any) -> object:
        """`NAME=` in a file or in compose means that the default holds."""
        return cls.model_fields[info.field_name].get_default() if value == "" else value

    @field_validator("slack_api_url")
    @classmethod
    def _ends_with_a_slash(cls, value: str) -> str:
        return value if value.endswith("/") else f"{value}/"

    @field_validator("web_url")
    @classmethod
    def _an_origin(cls, value: str) -> str:
        value = value.removesuffix("/")
        if value and not _ORIGIN.fullmatch(value):
            raise ValueError("must be like https://chat.example.com, without a path")
        return value

    @field_validator("slack_database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        try:
            make_url(value)
        except (ArgumentError, ValueError):
            raise ValueError("is no address of a database") from None
        return value

    @field_validator("slack_http_address", "slack_prometheus_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is None:
            return value
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdigit() and int(port) < 65_536):
            raise ValueError("must be HOST:PORT, like 127.0.0.1:3000")
        return value

    @model_validator(mode="after")
    def _says_how_to_reach_slack(self) -> Settings:
        if bool(self.slack_client_id) != bool(self.slack_client_secret):
            raise ValueError("SLACK_CLIENT_ID and SLACK_CLIENT_SECRET go together")
        if self.is_oauth and self.slack_bot_token:
            raise ValueError(
                "SLACK_BOT_TOKEN is for one workspace, SLACK_CLIENT_ID for many: set one of them"
            )
        if (self.slack_bot_token or "").startswith("xoxe."):
            raise ValueError(
                "SLACK_BOT_TOKEN expires within hours: it was made with token rotation, which"
                " needs installation by OAuth (SLACK_CLIENT_ID)"
            )
        if not (self.is_oauth or self.slack_bot_token):
            raise ValueError(
                "SLACK_BOT_TOKEN is missing: `colloquy slack --manifest` says how to get it"
            )
        if self.is_http and not self.slack_signing_secret:
            raise ValueError(
                "SLACK_SIGNING_SECRET is missing (or, for one workspace without a public address,"
                " SLACK_APP_TOKEN)"
            )
        if self.is_oauth and not self.allowed_teams:
            raise ValueError(
                "SLACK_ALLOWED_TEAMS is missing: the ids of the workspaces that may install the"
                " app, like T0123ABCD,T0456EFGH, or * for any workspace of Slack"
            )
        if self.is_oauth and not self.slack_encryption_key:
            raise ValueError(
                "SLACK_ENCRYPTION_KEY is missing: workspaces' tokens are not kept in the clear."
                ' Make one: python -c "from cryptography.fernet import Fernet;'
                ' print(Fernet.generate_key().decode())"'
            )
        if self.is_oauth and not self.provisioning_api_key:
            raise ValueError(
                "PROVISIONING_API_KEY is missing: each workspace gets an account of its own. Make"
                " one with `openssl rand -hex 32`, and set it here and for the server; the bot no"
                " longer takes ADMIN_API_KEY"
            )
        return self

    @property
    def is_oauth(self) -> bool:
        """Whether any workspace may install the app."""
        return bool(self.slack_client_id)

    @property
    def allowed_teams(self) -> frozenset[str]:
        """The ids of the workspaces that may install the app; `*` among them means any."""
        return frozenset((self.slack_allowed_teams or "").replace(",", " ").split())

    @property
    def is_http(self) -> bool:
        """Whether Slack calls: for events, or for the pages of an installation."""
        return self.is_oauth or not self.slack_app_token

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.slack_http_address.rpartition(":")
        return host.strip("[]"), int(port)


def load() -> Settings:
    """Read the settings.

    Raises SettingsError with one line that names each wrong variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"]).upper()
            what = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name}: {what}" if name else what)
        raise SettingsError("; ".join(problems)) from None
