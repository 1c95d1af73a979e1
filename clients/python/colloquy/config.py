"""Where the server is and which key opens it: arguments, then the environment, then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from colloquy.errors import ConfigurationError

DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
# `colloquy serve --dev` writes the development account's key here, in its working folder.
DEV_KEY_FILE = Path("data") / "dev.key"
_HTTPS_PORT = 443
# Names of gRPC's own, which say themselves how they are to be understood.
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "passthrough:", "unix:", "unix-abstract:", "xds:")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/?#@\[\]]+)(:(?P<port>\d{1,5}))?")


ApiKey = str | Callable[[], str]
"""A key, or what gives the one to use now, such as a token that is renewed. It is called before
each call, in any thread, and may wait or raise ColloquyError."""


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
    api_key: ApiKey = field(repr=False)
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
    api_key: ApiKey | None = None,
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

    if callable(api_key):
        return Endpoint(target, api_key, endpoint.tls)
    key = api_key or environ.get(key_variable) or ""
    if key_variable != "CONVERSATION_API_KEY":
        # The server takes several of the platform's keys; the first of them is the newest.
        key = next(iter(key.replace(",", " ").split()), "")
    if not key and key_variable == "CONVERSATION_API_KEY" and endpoint.is_loopback:
        key = development_key() or ""
    if not key:
        raise ConfigurationError(_no_key(key_variable, endpoint))
    return Endpoint(target, checked_key(key, f"the API key in {key_variable}"), endpoint.tls)


def checked_key(key: str, what: str) -> str:
    """Return a key as it can be sent. Raises ConfigurationError."""
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"{what} has characters that no key has")
    return key


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
    address = address.strip()
    if address.startswith(_GRPC_SCHEMES):
        return address, None
    if not address.startswith(("http://", "https://")):
        return _with_port(address), None
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


def _with_port(address: str) -> str:
    """Return HOST:PORT of it, with the default port if there is none and IPv6 in brackets."""
    try:
        is_ipv6 = ip_address(address).version == 6
    except ValueError:
        is_ipv6 = False
    found = _ADDRESS.fullmatch(f"[{address}]" if is_ipv6 else address)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if found is None or not 0 < port < 65_536:
        raise ConfigurationError(f"{address!r} is not an address: say HOST or HOST:PORT")
    return f"{found['host']}:{port}"


def _no_key(variable: str, endpoint: Endpoint) -> str:
    if variable != "CONVERSATION_API_KEY":
        return f"no platform key: set {variable} to the server's {variable}"
    if endpoint.is_loopback:
        return (
            f"no API key: set {variable}, or start a development server with `colloquy serve "
            f"--dev` in this folder (it writes {DEV_KEY_FILE})"
        )
    return f"no API key for {endpoint.address}: set {variable}"
