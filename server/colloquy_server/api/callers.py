"""Who makes a call, and what that lets it do."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace

from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository.users import Author
from colloquy_server.database.transactions import Scope, Viewer
from colloquy_server.errors import PermissionDenied


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call: the holder of an account's key, of the platform's (`is_platform`), or of
    one that only makes accounts and their keys (`is_provisioning`)."""

    account_id: str = ""
    key_id: str = ""
    role: KeyRole = KeyRole.SERVICE
    user_id: str = ""
    user_external_id: str = ""
    is_platform: bool = False
    is_provisioning: bool = False
    limited_key_id: str | None = None
    """The key's id if it has quotas, so that it is remembered what is made with it."""
    session_id: str = ""
    """The session of a browser in which the call is made; `key_id` is then the key on which it
    stands, if it does on one."""

    @property
    def scope(self) -> Scope:
        """What the caller sees: all of its account, or a member's part of it."""
        if self.role == KeyRole.MEMBER:
            return Viewer(self.account_id, self.user_id)
        return self.account_id

    @property
    def speaks_for_others(self) -> bool:
        """Whether the caller may name any user of the account as its author, and gives users their
        names. Others are one user."""
        return self.role == KeyRole.SERVICE

    def other(self, named: Author) -> Author:
        """Somebody else whom the caller names: for an e-mail address only a service vouches."""
        return named if self.speaks_for_others else replace(named, email="")

    def author(self, asked: Author) -> Author:
        """Whom the caller speaks as, when `asked` is whom it would like to speak as.

        Raises PermissionDenied when a member or an admin would speak as somebody else.
        """
        if self.speaks_for_others:
            # A service's key has the account's default user.
            if asked.id or asked.external_id:
                return asked
            return replace(asked, id=self.user_id, email="", is_caller=True)
        is_other = asked.id not in ("", self.user_id)
        if is_other or asked.external_id not in ("", self.user_external_id):
            raise PermissionDenied(
                "This key speaks as its own user: leave `author` out, or use a service's key."
            )
        return Author(id=self.user_id, is_caller=True)


principal: ContextVar[Principal] = ContextVar("principal")
"""Who makes the call that is being served."""
