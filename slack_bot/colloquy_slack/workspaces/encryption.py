"""Encrypts workspaces' tokens and keys at rest."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken

from colloquy_slack.settings import SettingsError


class Cipher:
    """Encrypts and decrypts short texts."""

    def __init__(self, key: str) -> None:
        """Raises SettingsError when it is no Fernet key."""
        try:
            self._fernet = Fernet(key)
        except ValueError:
            raise SettingsError(
                "SLACK_ENCRYPTION_KEY: must be 32 bytes in URL-safe base64"
            ) from None

    def encrypt(self, text: str) -> str:
        """Return a text encrypted."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Return what was encrypted. Raises SettingsError when another key did it."""
        try:
            return self._fernet.decrypt(encrypted.encode()).decode()
        except InvalidToken:
            raise SettingsError(
                "SLACK_ENCRYPTION_KEY: the database was written with another key"
            ) from None
