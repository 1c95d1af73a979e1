"""Every setting of the server, read from the environment and `.env` in this one place."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sentry_sdk.utils import BadDsn, Dsn

from colloquy_server.errors import ColloquyError

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Quota = Annotated[int, Field(ge=1, le=1 << 62)]

_MAX_INT32 = (1 << 31) - 1
"""The API says how many replies may wait in so many bits."""

_MAX_KEY_CHECK_INTERVAL = 8
"""Seconds: a key that was revoked is cut off within 10, and a check takes a moment."""

_MIN_KEY_LENGTH = 32
"""Characters of a key that people make up: hexadecimal digits, that is 128 random bits."""


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
    http_address: str = "127.0.0.1:8080"
    allow_insecure: bool = False
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    admin_api_key: str | None = Field(default=None, repr=False)
    provisioning_api_key: str | None = Field(default=None, repr=False)
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
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
    max_file_bytes_per_account: Quota | None = None
    max_conversations_per_account: Quota | None = None
    max_queued_replies_per_account: Annotated[int, Field(ge=1, le=_MAX_INT32)] | None = None
    audit_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    max_concurrent_calls: Count = 2_000
    max_open_streams: Count = 10_000
    request_timeout: Seconds = 30
    reflection: Literal["on", "off"] = "on"
    max_attachment_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 26_214_400
    heartbeat_interval: Seconds = 15
    max_failed_authentications: Count = 60
    key_check_interval: Annotated[float, Field(gt=0, le=_MAX_KEY_CHECK_INTERVAL)] = 5
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: str | None = Field(default=None, repr=False)
    oidc_rules: str | None = Field(default=None, repr=False)
    web_url: str | None = None
    session_lifetime: Annotated[float, Field(ge=60, le=31_536_000)] = 2_592_000
    webhook_timeout: Seconds = 15
    webhook_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    webhook_retry_base: Annotated[float, Field(gt=0, le=3_600)] = 5
    webhook_dead_letter_days: Annotated[int, Field(ge=1, le=3_650)] = 30
    webhook_allow_private: bool = False
    sentry_dsn: str | None = Field(default=None, repr=False)
    otel_exporter_otlp_endpoint: str | None = None
    prometheus_address: str | None = None
    log_format: Literal["console", "json"] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_means_unset(cls, value: object, info: object) -> object:
        """`NAME=` in a file or in compose means that the default holds."""
        if value == "":
            field = cls.model_fields[info.field_name]  # type: ignore[attr-defined]
            return field.get_default()
        return value

    @field_validator("grpc_address", "http_address", "prometheus_address")
    @classmethod
    def _host_and_port(cls, value: str | None, info: ValidationInfo) -> str | None:
        is_http = info.field_name == "http_address"
        if value is None or (is_http and value == "off"):
            return value
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdigit() and int(port) < 65_536):
            example = "127.0.0.1:8080, or off" if is_http else "127.0.0.1:50051"
            raise ValueError(f"must be HOST:PORT, like {example}")
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

    @field_validator("admin_api_key", "provisioning_api_key")
    @classmethod
    def _hard_to_guess(cls, value: str | None) -> str | None:
        for key in _keys(value):
            if len(key) < _MIN_KEY_LENGTH:
                raise ValueError(
                    f"a key of {len(key)} characters can be guessed, at least {_MIN_KEY_LENGTH} are"
                    " needed: make one with `openssl rand -hex 32`"
                )
            if not (key.isascii() and key.isprintable()):
                raise ValueError(
                    "a key has characters that no call can send:"
                    " make one with `openssl rand -hex 32`"
                )
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

    @field_validator("oidc_issuer")
    @classmethod
    def _safe_issuer(cls, value: str | None) -> str | None:
        if value is not None and ("?" in value or not is_safe_url(value)):
            raise ValueError("must be a URL like https://login.example.com (http on loopback only)")
        return value

    @field_validator("web_url")
    @classmethod
    def _an_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.removesuffix("/")
        try:
            parts = urlsplit(value)
            is_whole = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_whole = False
        if not is_whole or value != f"{parts.scheme}://{parts.netloc}" or "@" in value:
            raise ValueError("must be like https://chat.example.com, without a path")
        if parts.scheme not in ("https", "http") or re.search(r"[^\x21-\x7e]", value):
            raise ValueError("must be like https://chat.example.com, without a path")
        return value.lower()

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
    def _keys_differ(self) -> Settings:
        if set(self.admin_keys) & set(self.provisioning_keys):
            raise ValueError(
                "ADMIN_API_KEY and PROVISIONING_API_KEY have a key in common, which would be the"
                " platform's: make another with `openssl rand -hex 32`"
            )
        return self

    @model_validator(mode="after")
    def _safe_to_listen(self) -> Settings:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE go together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("TLS_CLIENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE")
        self._check_certificates()
        for name in ("grpc_address", "http_address"):
            address = getattr(self, name)
            if address == "off" or self.tls_cert_file or self.allow_insecure:
                continue
            if not _is_loopback(address):
                raise ValueError(
                    f"{name.upper()} {address} is not loopback: set TLS_CERT_FILE and"
                    " TLS_KEY_FILE, or ALLOW_INSECURE=1 when something else encrypts"
                )
        return self

    @model_validator(mode="after")
    def _page_is_private(self) -> Settings:
        if self.web_url and not is_safe_url(self.web_url) and not self.allow_insecure:
            raise ValueError(
                f"WEB_URL {self.web_url} is neither https nor of this machine: cookies would be"
                " seen on the way; ALLOW_INSECURE=1 takes it"
            )
        return self

    @model_validator(mode="after")
    def _identity_provider_is_whole(self) -> Settings:
        together = (self.oidc_issuer, self.oidc_audience, self.oidc_rules)
        # The terminal's `colloquy login` reads the first two from the same file.
        if self.oidc_rules and not all(together):
            raise ValueError("OIDC_RULES needs OIDC_ISSUER and OIDC_AUDIENCE")
        if self.oidc_rules and not names(self.oidc_audience):
            raise ValueError("OIDC_AUDIENCE: names nobody")
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
    def admin_keys(self) -> tuple[str, ...]:
        """The platform's keys: several while one takes another's place."""
        return _keys(self.admin_api_key)

    @property
    def provisioning_keys(self) -> tuple[str, ...]:
        """The keys that may make accounts and their keys, and nothing else."""
        return _keys(self.provisioning_api_key)

    def page_url(self, port: int = 0) -> str:
        """Where the page is, to its users, without a slash at the end: `port` is what port 0 of
        HTTP_ADDRESS became. Empty where no page is served."""
        if self.web_url or not self.serves_http:
            return self.web_url or ""
        host, _, given = self.http_address.rpartition(":")
        scheme = "https" if self.tls_cert_file else "http"
        host = "localhost" if host.strip("[]") in ("0.0.0.0", "::") else host  # noqa: S104
        return f"{scheme}://{host}:{port or given}"

    @property
    def serves_http(self) -> bool:
        """Whether the server is also there for those who have only HTTP."""
        return self.http_address != "off"

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


def _keys(value: str | None) -> tuple[str, ...]:
    """The keys of a list with commas or blanks between them."""
    return tuple((value or "").replace(",", " ").split())


def is_safe_url(url: str) -> bool:
    """Whether what is fetched from an address comes from there: by https, or on this machine."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    is_plain = parts.username is None and not parts.fragment and not re.search(r"\s", url)
    if not parts.hostname or port == 0 or not is_plain:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(parts.hostname))


def names(listed: str | None) -> list[str]:
    """The names in a setting that takes several, with commas between."""
    return [name for name in (part.strip() for part in (listed or "").split(",")) if name]


def _is_loopback(address: str) -> bool:
    """Whether only this machine can reach HOST:PORT."""
    return _is_this_machine(address.rpartition(":")[0].strip("[]"))


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, wherever it leads
        return False


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
