"""Who is signed in at which server: tokens in a private file, renewed before they expire.

A token is only ever sent to the server that its owner signed in for, and in the clear only to this
machine when that is how they signed in.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colloquy.config import Endpoint
from colloquy.errors import ConfigurationError
from colloquy.operations.private_files import close_to_others, held, write_private
from colloquy.terminal.identity_provider import Client, Provider, SignInFailed, Tokens


@dataclass(frozen=True)
class Login:
    """Tokens, and by whom and for whom they were given."""

    client: Client
    tokens: Tokens


class Logins:
    """The file of logins, by the servers that they are for."""

    def __init__(self, file: Path | None = None) -> None:
        """`file` is in the user's folder of settings unless it is given."""
        self.file = file or _settings_folder() / "colloquy" / "logins.json"

    def find(self, server: str) -> Login | None:
        """Return the login for a server. Raises ConfigurationError for a file that is broken."""
        entry = self._read().get(server)
        if entry is None:
            return None
        try:
            return Login(Client(**entry["client"]), Tokens(**entry["tokens"]))
        except (TypeError, KeyError):
            raise self._broken() from None

    def keep(self, server: str, login: Login | None) -> None:
        """Store a login in place of the one that was, or with None forget it."""
        with held(self.file):
            self._keep(server, login)

    def renewed(self, server: str, make: Callable[[Client], Provider] = Provider) -> Login:
        """Return the login for a server with tokens that hold, by a refresh when it is time.

        Raises ConfigurationError when one has to sign in anew, SignInFailed when the provider
        cannot be reached and the token has expired.
        """
        with held(self.file):  # another process may be about to do the same
            login = self.find(server)
            if login is None:
                raise ConfigurationError(f"not signed in at {server}: run `colloquy login`")
            if time.time() < login.tokens.refresh_time:
                return login
            try:
                if not login.tokens.refresh_token:
                    raise SignInFailed("there is no refresh token", is_final=True)
                tokens = make(login.client).refresh(login.tokens.refresh_token)
            except SignInFailed as error:
                if time.time() < login.tokens.expire_time:
                    return login
                if not error.is_final:
                    raise
                raise ConfigurationError(
                    f"your login has ended ({error.message}): run `colloquy login`"
                ) from None
            login = Login(login.client, tokens)
            self._keep(server, login)
            return login

    def _keep(self, server: str, login: Login | None) -> None:
        entries = self._read()
        entries.pop(server, None)
        if login is not None:
            entries[server] = asdict(login)
        write_private(self.file, json.dumps(entries, indent=1) + "\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            close_to_others(self.file)
            found = json.loads(self.file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            raise self._broken() from None
        if not isinstance(found, dict) or not all(isinstance(e, dict) for e in found.values()):
            raise self._broken()
        return found

    def _broken(self) -> ConfigurationError:
        return ConfigurationError(f"{self.file} cannot be read: remove it and sign in again")


class RenewedToken:
    """The token for a server, as clients take it in place of a key: any thread may call it."""

    def __init__(self, logins: Logins, server: str, login: Login) -> None:
        self._logins, self._server, self._login = logins, server, login
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """Return a token that holds. Raises ColloquyError."""
        with self._lock:
            if time.time() >= self._login.tokens.refresh_time:
                self._login = self._logins.renewed(self._server)
            return self._login.tokens.bearer


def server_name(endpoint: Endpoint) -> str:
    """Return how the file names a server; one that is spoken to in the clear is another one."""
    return f"{'http' if endpoint.tls is None else 'https'}://{endpoint.address}"


def _settings_folder() -> Path:
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".config"
