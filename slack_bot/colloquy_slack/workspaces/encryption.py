"""Encrypts workspaces' tokens and keys at rest."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from colloquy_slack.settings import SettingsError


class Cipher:
    """Encrypts and decrypts short texts."""

    def __init__(self, keys: str) -> None:
        """Several keys have commas between them, while one takes another's place: the first
        encrypts, and each decrypts. Raises SettingsError when one is no Fernet key."""
        try:
            self._fernets = [Fernet(key) for key in keys.replace(",", " ").split()]
            self._fernet = MultiFernet(self._fernets)
        except ValueError:
            raise SettingsError(
                "SLACK_ENCRYPTION_KEY: must be 32 bytes in URL-safe base64"
            ) from None

    @property
    def is_changing(self) -> bool:
        """Whether there may be something that an older key encrypted."""
        return len(self._fernets) > 1

    def renew(self, encrypted: str) -> str:
        """Return what was encrypted, encrypted with the first key; the same if it is so. Raises
        SettingsError when no key of these did it."""
        try:
            self._fernets[0].decrypt(encrypted.encode())
        except InvalidToken:
            return self.encrypt(self.decrypt(encrypted))
        return encrypted

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
