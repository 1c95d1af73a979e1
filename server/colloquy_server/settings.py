"""Every setting of the server, read from the environment and `.env` in this one place."""

from __future__ import annotations

import ipaddress
import os
import ssl
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sentry_sdk.utils import BadDsn, Dsn

from colloquy_server.errors import ColloquyError

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class SettingsError(ColloquyError):
    """A setting is wrong."""


class Settings(BaseSettings):
    """Field names in capitals are the names of the environment variables; times are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    database_url: str = Field(default="sqlite:///data/conversations.db", repr=False)
    database_pool_size: Annotated[int, Field(ge=2, le=1_000)] = 10
    event_bus_url: str | None = Field(default=None, repr=False)
    storage_url: str = "file://data/files"
    grpc_address: str = "127.0.0.1:50051"
    allow_insecure: bool = False
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    admin_api_key: str | None = Field(default=None, repr=False)
    ai_models_file: Path | None = None
    shutdown_grace: Annotated[float, Field(ge=0, le=3_600)] = 20
    lease_ttl: Seconds = 5
    provider_first_byte_timeout: Seconds | None = None
    provider_idle_timeout: Seconds = 60
    provider_total_timeout: Seconds = 3_600
    provider_attempts: Count = 3
    retry_base: Annotated[float, Field(ge=0, le=60)] = 0.5
    max_live_replies: Count = 400
    max_live_replies_per_account: Count = 200
    max_queued_per_conversation: Count = 100
    max_requests_per_second: Count = 1_000
    max_attachment_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 26_214_400
    heartbeat_interval: Seconds = 15
    key_check_interval: Seconds = 5
    sentry_dsn: str | None = Field(default=None, repr=False)
    otel_exporter_otlp_endpoint: str | None = None
    log_format: Literal["console", "json"] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_means_unset(cls, value: object, info: object) -> object:
        """`NAME=` in a file or in compose means that the default holds."""
        if value == "":
            field = cls.model_fields[info.field_name]  # type: ignore[attr-defined]
            return field.get_default()
        return value

    @field_validator("grpc_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdigit() and int(port) < 65_536):
            raise ValueError("must be HOST:PORT, like 127.0.0.1:50051")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value.startswith("postgresql://"):
            return _postgres(value)
        if not value.startswith("sqlite:///"):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        if value.removeprefix("sqlite:///").partition("?")[0] in ("", ":memory:"):
            # Each connection would have a database of its own.
            raise ValueError("must name a file, like sqlite:///data/conversations.db")
        return value

    @field_validator("storage_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if not value.startswith(("file://", "s3://", "gs://", "az://")):
            raise ValueError("must begin with file://, s3://, gs:// or az://")
        return value

    @field_validator("event_bus_url")
    @classmethod
    def _known_bus(cls, value: str | None) -> str | None:
        if value is None or value.startswith("memory://"):
            return value
        if not value.startswith("postgresql://"):
            raise ValueError("must be memory:// or begin with postgresql://")
        return _postgres(value)

    @field_validator("sentry_dsn")
    @classmethod
    def _good_dsn(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                Dsn(value)
        except BadDsn:  # which may hold the key
            raise ValueError("is not a DSN like https://key@host/1") from None
        return value

    @model_validator(mode="after")
    def _safe_to_listen(self) -> Settings:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE go together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("TLS_CLIENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE")
        self._check_certificates()
        if not (self.is_loopback or self.tls_cert_file or self.allow_insecure):
            raise ValueError(
                f"GRPC_ADDRESS {self.grpc_address} is not loopback: set TLS_CERT_FILE and"
                " TLS_KEY_FILE, or ALLOW_INSECURE=1 when something else encrypts"
            )
        return self

    def _check_certificates(self) -> None:
        """Files that cannot be used: gRPC would say no more than that it cannot listen."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names, what = "TLS_CERT_FILE and TLS_KEY_FILE", "not a certificate and its key"
        try:
            if self.tls_cert_file and self.tls_key_file:
                context.load_cert_chain(self.tls_cert_file, self.tls_key_file, password="")
            names, what = "TLS_CLIENT_CA_FILE", "not a certificate"
            if self.tls_client_ca_file:
                context.load_verify_locations(self.tls_client_ca_file)
        except ssl.SSLError:
            raise ValueError(f"{names}: {what} in PEM, without a password") from None
        except OSError as error:
            raise ValueError(f"{names}: {error.strerror}") from None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        host = self.grpc_address.rpartition(":")[0].strip("[]")
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:  # a name, wherever it leads
            return False

    @property
    def models_file(self) -> Path:
        """The models file: the one that is set, the working folder's, or the one shipped here."""
        of_folder = Path("config/ai_models.yml")
        shipped = Path(__file__).with_name("ai_models.yml")
        return self.ai_models_file or (of_folder if os.path.lexists(of_folder) else shipped)

    @cached_property
    def environ(self) -> dict[str, str]:
        """The environment over `.env`: where the catalogue's providers find their keys."""
        from_file = {k: v for k, v in dotenv_values(".env").items() if v is not None}
        return {**from_file, **os.environ}


def _postgres(url: str) -> str:
    try:
        urlsplit(url).port  # noqa: B018 - it is checked when it is read
    except ValueError:  # which may hold the password
        raise ValueError("is not a URL like postgresql://user:password@host:5432/db") from None
    return url


def load() -> Settings:
    """Reads the settings.

    Raises SettingsError with one line that names each wrong variable.
    """
    try:
        return Settings()
    except UnicodeDecodeError:
        raise SettingsError(".env: not UTF-8") from None
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_context=False):
            name = ".".join(str(part) for part in problem["loc"]).upper()
            what = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name}: {what}" if name else what)
        raise SettingsError("; ".join(problems)) from None
