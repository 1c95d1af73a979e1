"""What a request says as a browser's: its cookie, and whether a page of ours sends it.

A browser sends its cookie with whatever any page asks of us. So a cookie counts only where the
request is of our own page: browsers say that of themselves, in `Sec-Fetch-Site` and `Origin`, which
no page can change. Whoever has a key or a token shows that instead, and is not asked.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

from colloquy_server.errors import PermissionDenied
from colloquy_server.web.calls import header

_NAME = "colloquy"
_STATE = "colloquy_sign_in"

_READING = ("GET", "HEAD")


class FromElsewhere(PermissionDenied):
    """This request does not come from Colloquy's own page."""


class Browsers:
    """Reads and writes what browsers keep."""

    def __init__(self, web_url: Callable[[], str]) -> None:
        """`web_url` is where the page is, to its users."""
        self._web_url = web_url

    @property
    def _is_encrypted(self) -> bool:
        return self._web_url().startswith("https:")

    def _name(self, name: str) -> str:
        # With this prefix a browser takes it from this host alone, and over TLS.
        return f"__Host-{name}" if self._is_encrypted else name

    def session_of(self, scope: Scope) -> str:
        """The secret of the session in which a request is made; empty when there is none, or the
        caller shows a key or a token.

        Raises FromElsewhere for one that is not of our own page; without a session, too, if a
        browser says so: else any page could have those who read it taken for guessing.
        """
        if header(scope, b"authorization"):
            return ""
        secret = self._cookie(scope, _NAME)
        if secret or header(scope, b"sec-fetch-site") or header(scope, b"origin"):
            self.require_own_page(scope)
        return secret

    def shown_session(self, scope: Scope) -> str:
        """The same of whatever page, for what only ends it."""
        return self._cookie(scope, _NAME)

    def require_own_page(self, scope: Scope) -> None:
        """Raises FromElsewhere for a request that is not of our own page, or does not say so.

        What is read may also be asked for by its address, as in the browser's bar.
        """
        is_reading = scope["method"] in _READING
        site = header(scope, b"sec-fetch-site")
        origin = header(scope, b"origin")
        if site and site != "same-origin" and not (is_reading and site == "none"):
            raise FromElsewhere
        if origin and not self._is_own(origin, header(scope, b"host")):
            raise FromElsewhere
        if not site and not origin and not is_reading:
            raise FromElsewhere

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether this is the page's origin, also by another name of this server, which is then in
        the browser's bar: no page of others has it. Where the page comes by TLS, one without it is
        of whoever is in between."""
        if origin == self._web_url():
            return True
        scheme, _, name = origin.partition("://")
        is_page = scheme == "https" or (scheme == "http" and not self._is_encrypted)
        return is_page and name == host != ""

    def kept_state(self, scope: Scope) -> str:
        """What a browser keeps while it signs in at the identity provider."""
        return self._cookie(scope, _STATE)

    def _cookie(self, scope: Scope, name: str) -> str:
        wanted = self._name(name)
        for pair in header(scope, b"cookie").split(";"):
            # Blanks are these alone: what a browser takes for a part of a name is one.
            found, _, value = pair.strip(" \t").partition("=")
            if found == wanted:
                return value
        return ""

    def session_cookie(self, secret: str, lasts: float) -> str:
        """A header that has the browser keep a session, for so many seconds.

        It is `Strict`: what other pages link to are files of the page, which need no cookie; what
        is read and done is asked for by the page itself.
        """
        return self._set(_NAME, secret, lasts, "Strict")

    def state_cookie(self, kept: str, lasts: float) -> str:
        """The same for what is kept while somebody signs in at the identity provider, which sends
        the browser back here: so it is `Lax`."""
        return self._set(_STATE, kept, lasts, "Lax")

    def _set(self, name: str, value: str, lasts: float, same_site: str) -> str:
        secure = "; Secure" if self._is_encrypted else ""
        age = f"Max-Age={int(lasts)}"
        return f"{self._name(name)}={value}; Path=/; {age}; HttpOnly; SameSite={same_site}{secure}"
