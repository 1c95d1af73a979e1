"""A browser as far as signing in goes: it keeps cookies, says where its requests come from, and
follows no redirect by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any, Self

import aiohttp

SESSIONS = "/conversation.v1.SessionService/"
CONVERSATIONS = "/conversation.v1.ConversationService/"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    text: str
    json: Any = None
    set: dict[str, str] = field(default_factory=dict)
    """The headers that set cookies, by the cookies' names."""


class Browser:
    """One browser, at a page."""

    def __init__(self, url: str, **headers: str) -> None:
        """`url` is where the page is; `headers` go with all requests."""
        self.url = url
        self.headers = headers
        self.cookies: dict[str, str] = {}
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, *, origin: str | None = "own", **more: Any
    ) -> Answer:
        """Makes a request, from the page unless `origin` says otherwise."""
        headers = {**self.headers, **more.pop("headers", {})}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if origin is not None and method != "GET":
            headers["origin"] = self.url if origin == "own" else origin
        url = path if path.startswith("http") else self.url + path
        request = self._session.request(method, url, headers=headers, allow_redirects=False, **more)
        async with request as response:
            text = await response.text()
            answer = Answer(response.status, response.headers, text)
            if response.content_type == "application/json":
                answer.json = await response.json()
            for line in response.headers.getall("set-cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    answer.set[name] = line
                    self.cookies[name] = morsel.value
                    if not morsel.value:
                        del self.cookies[name]
            return answer

    async def call(self, path: str, **request: Any) -> Answer:
        """Makes a call of the API, by Connect with JSON."""
        return await self.ask("POST", path, json=request)

    async def sign_in(self, **shown: str) -> Answer:
        """Signs in with an API key or a code."""
        return await self.ask("POST", "/session", json=shown)

    async def who(self) -> Any:
        """Who the browser's user is, or the code of the refusal."""
        answer = await self.call(f"{SESSIONS}GetSession")
        return answer.json if answer.status == 200 else answer.json["code"]
