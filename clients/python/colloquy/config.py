"""Where the server is and which key opens it: arguments, then the environment, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from colloquy.errors import ConfigurationError

DEFAULT_ADDRESS = "127.0.0.1:50051"
# `colloquy serve --dev` writes the development account's key here, in its working folder.
DEV_KEY_FILE = Path("data") / "dev.key"
_HTTPS_PORT = 443


@dataclass(frozen=True)
class Tls:
    """How to trust the server, and how to be trusted: PEM files. None means the system's roots."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """A server to talk to, and the key to talk to it with."""

    address: str
    api_key: str = field(repr=False)
    tls: Tls | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        if self.address.startswith("unix:"):
            return True
        host = self.address.rpartition(":")[0].strip("[]") or self.address
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False


def resolve(
    address: str | None = None,
    api_key: str | None = None,
    *,
    tls: bool = False,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    key_variable: str = "CONVERSATION_API_KEY",
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """Return the server that the arguments and the environment name.

    The development key is only ever offered to a server on this machine, and only in place of an
    account's key. Raises ConfigurationError when there is no key, or an address that cannot be.
    """
    given = address or environ.get("CONVERSATION_ADDRESS") or DEFAULT_ADDRESS
    files = Tls(
        ca_file or environ.get("CONVERSATION_TLS_CA_FILE") or None,
        cert_file or environ.get("CONVERSATION_TLS_CERT_FILE") or None,
        key_file or environ.get("CONVERSATION_TLS_KEY_FILE") or None,
    )
    if bool(files.cert_file) != bool(files.key_file):
        raise ConfigurationError("a client certificate needs both its file and its key's file")
    target, secure = _target(given)
    wanted = secure if secure is not None else tls or files != Tls()
    endpoint = Endpoint(target, "", files if wanted else None)

    key = api_key or environ.get(key_variable) or ""
    if not key and key_variable == "CONVERSATION_API_KEY" and endpoint.is_loopback:
        key = development_key() or ""
    if not key:
        raise ConfigurationError(_no_key(key_variable, endpoint))
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"the API key in {key_variable} has characters that no key has")
    return Endpoint(target, key, endpoint.tls)


def development_key(start: Path | None = None) -> str | None:
    """Return the key that `colloquy serve --dev` wrote, from the working folder upwards."""
    folder = (start or Path.cwd()).absolute()
    for place in (folder, *folder.parents):
        try:
            key = (place / DEV_KEY_FILE).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if key:
            return key
    return None


def _target(address: str) -> tuple[str, bool | None]:
    """Return gRPC's name for an address, and whether it asks for TLS (None: it does not say)."""
    if not address.startswith(("http://", "https://")):
        return address, None
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{address!r} is not an address: {error}") from None
    if not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise ConfigurationError(f"{address!r} is not an address: say https://HOST:PORT")
    secure = parts.scheme == "https"
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{port or (_HTTPS_PORT if secure else 80)}", secure


def _no_key(variable: str, endpoint: Endpoint) -> str:
    if variable != "CONVERSATION_API_KEY":
        return f"no platform key: set {variable} to the server's {variable}"
    if endpoint.is_loopback:
        return (
            f"no API key: set {variable}, or start a development server with `colloquy serve "
            f"--dev` in this folder (it writes {DEV_KEY_FILE})"
        )
    return f"no API key for {endpoint.address}: set {variable}"
