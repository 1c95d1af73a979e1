"""The company's identity provider, as the terminal meets it: device flow (RFC 8628) and refresh.

Nothing is sent to an address that is neither https nor of this machine, and no redirect is
followed: what is sent are codes and tokens.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode, urlsplit

from colloquy.errors import ConfigurationError

_TIMEOUT = 15.0
_MAX_BYTES = 1 << 18
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628: what to wait between polls when nothing is said, and how much more after `slow_down`.
_INTERVAL = 5.0
_SLOWER = 5.0
_USUAL_LIFETIME = 300.0


class SignInFailed(ConfigurationError):
    """The provider refuses, or cannot be asked; `is_final` when asking again is no use."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


@dataclass(frozen=True)
class Client:
    """Who asks: this terminal, by its name at the provider."""

    issuer: str
    client_id: str
    client_secret: str = ""
    audience: str = ""
    scope: str = "openid profile email offline_access"


@dataclass(frozen=True)
class Tokens:
    """What the provider gave. Times are seconds since 1970 by this machine's clock."""

    bearer: str
    refresh_token: str
    refresh_time: float
    expire_time: float


@dataclass(frozen=True)
class DeviceCode:
    """What a person needs to sign in, and what shows that it was this terminal that asked."""

    device_code: str
    user_code: str
    address: str
    interval: float
    seconds: float


class Provider:
    """The provider of a client's issuer, by its discovery document."""

    def __init__(
        self,
        client: Client,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Asks nothing yet; `sleep` and `clock` are in seconds."""
        self._client = client
        self._sleep, self._clock = sleep, clock
        self._document: Mapping[str, Any] | None = None

    def device_code(self) -> DeviceCode:
        """Ask for a code. Raises SignInFailed."""
        form = {"scope": self._client.scope}
        if self._client.audience:
            form["audience"] = self._client.audience
        answer = self._post("device_authorization_endpoint", form)
        address = answer.get("verification_uri_complete") or answer.get("verification_uri")
        address = address or answer.get("verification_url")  # as Google calls it
        code, user_code = answer.get("device_code"), answer.get("user_code")
        if not (isinstance(address, str) and isinstance(code, str) and isinstance(user_code, str)):
            raise SignInFailed("the provider's answer has no code in it", is_final=True)
        return DeviceCode(
            code,
            user_code,
            address,
            _seconds(answer.get("interval"), _INTERVAL),
            _seconds(answer.get("expires_in"), 600.0),
        )

    def wait(self, code: DeviceCode) -> Tokens:
        """Wait until the person has signed in. Raises SignInFailed."""
        interval, deadline = max(1.0, code.interval), self._clock() + code.seconds
        form = {"grant_type": _DEVICE_GRANT, "device_code": code.device_code}
        while self._clock() < deadline:
            self._sleep(interval)
            try:
                return _tokens(self._post("token_endpoint", form), "")
            except _Refused as error:
                if error.error == "slow_down":
                    interval += _SLOWER
                elif error.error == "expired_token":
                    break
                elif error.error == "access_denied":
                    raise SignInFailed("signing in was denied", is_final=True) from None
                elif error.error != "authorization_pending":
                    raise
            except SignInFailed as error:
                if error.is_final:
                    raise
                interval *= 2  # the provider is away: it is not pressed
        raise SignInFailed("nobody signed in in time: begin again", is_final=True)

    def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for new tokens. Raises SignInFailed."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return _tokens(self._post("token_endpoint", form), refresh_token)

    def revoke(self, refresh_token: str) -> None:
        """Tell the provider that a refresh token is not needed any more, if it wants to know.

        Raises SignInFailed.
        """
        if "revocation_endpoint" in self._discovered():
            form = {"token": refresh_token, "token_type_hint": "refresh_token"}
            self._post("revocation_endpoint", form)

    def _discovered(self) -> Mapping[str, Any]:
        if self._document is None:
            issuer = self._client.issuer
            url = issuer.rstrip("/") + "/.well-known/openid-configuration"
            document = _ask(url)
            if document.get("issuer") != issuer:
                raise SignInFailed(f"{issuer} is not the name of its issuer", is_final=True)
            self._document = document
        return self._document

    def _post(self, endpoint: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        address = self._discovered().get(endpoint)
        if not isinstance(address, str):
            raise SignInFailed(f"the provider has no {endpoint}", is_final=True)
        whole = {"client_id": self._client.client_id, **form}
        if self._client.client_secret:
            whole["client_secret"] = self._client.client_secret
        return _ask(address, urlencode(whole).encode())


class _Refused(SignInFailed):
    """An error of OAuth, by its name."""

    def __init__(self, code: str, description: str) -> None:
        said = f"{code}: {description}" if description else code
        super().__init__(f"the identity provider refuses: {said}", is_final=True)
        self.error = code


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _ask(url: str, form: bytes | None = None) -> Mapping[str, Any]:
    """Return the JSON object that an address answers a form with. Raises SignInFailed."""
    headers = {"Accept": "application/json"}
    request = urllib.request.Request(_checked(url), form, headers)  # noqa: S310 - it is checked
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(request.host):
        handlers.append(urllib.request.ProxyHandler({}))  # which could not reach it
    status = 200
    try:
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT) as answer:
                body = answer.read(_MAX_BYTES)
        except urllib.error.HTTPError as error:
            status = error.code
            with error:
                body = error.read(_MAX_BYTES)
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        message = f"the identity provider at {request.host} cannot be reached: {why}"
        raise SignInFailed(message, is_final=False) from None
    try:
        document = json.loads(body) if body or status >= 300 else {}
    except (ValueError, RecursionError):
        document = None
    if status < 300 and isinstance(document, dict):
        return document
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        raise _Refused(document["error"], str(document.get("error_description") or ""))
    message = f"the identity provider at {request.host} answers with status {status}"
    raise SignInFailed(message, is_final=300 <= status < 500)


def _tokens(answer: Mapping[str, Any], refresh_token: str) -> Tokens:
    """Return the tokens of an answer; a provider that sends no new refresh token goes on with the
    one that it has."""
    access, identity = answer.get("access_token"), answer.get("id_token")
    # Google's access tokens can be read by Google alone; what says who somebody is is the other.
    bearer = next((one for one in (access, identity) if _is_jwt(one)), None)
    if not isinstance(bearer, str):
        raise SignInFailed("the provider gave no token that is a JWT", is_final=True)
    lifetime = _lifetime(bearer, answer)
    new = answer.get("refresh_token")
    now = time.time()
    return Tokens(
        bearer,
        new if isinstance(new, str) else refresh_token,
        now + lifetime - min(60.0, lifetime / 2),
        now + lifetime,
    )


def _is_jwt(token: object) -> bool:
    return isinstance(token, str) and token.startswith("eyJ") and token.count(".") == 2


def _lifetime(bearer: str, answer: Mapping[str, Any]) -> float:
    """Return for how many seconds a token holds, whatever the time is here."""
    part = bearer.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return max(0.0, float(claims["exp"]) - float(claims["iat"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _seconds(answer.get("expires_in"), _USUAL_LIFETIME)


def _seconds(value: object, usual: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if is_number else usual  # type: ignore[arg-type]


def _checked(url: str) -> str:
    """Return an address that codes and tokens may go to. Raises SignInFailed for others."""
    try:
        parts = urlsplit(url)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.netloc))
    except ValueError:
        is_safe = False
    if not is_safe:
        raise SignInFailed(f"{url!r} is not an https:// address", is_final=True)
    return url


def _is_loopback(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
