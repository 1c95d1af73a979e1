"""Events over HTTP: signed requests to the app's request URL.

https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.fakes.slack.delivery import Attempt, Delivery

if TYPE_CHECKING:
    from tests.fakes.slack.server import SlackDouble


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The value of X-Slack-Signature."""
    text = b"v0:%d:%b" % (timestamp, body)
    return "v0=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


class HttpEvents:
    """The side of Slack that calls the app."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, delivery: Delivery, number: int, reason: str) -> Attempt:
        """POST once and judge the answer as Slack does."""
        now = self.slack.clock.time()
        headers = {"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": reason}
        body, content_type = _encoded(delivery)
        sending = asyncio.ensure_future(
            self.post(body, content_type=content_type, headers=headers if number else {})
        )
        deadline = asyncio.ensure_future(self.slack.clock.sleep(self.slack.courier.ack_seconds))
        try:
            await asyncio.wait({sending, deadline}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return Attempt(now, "timeout")
            status, answer, answered = sending.result()
        except (aiohttp.ClientError, OSError) as error:
            return Attempt(now, "connection_failed", type(error).__name__)
        finally:
            deadline.cancel()
            sending.cancel()
        if not 200 <= status < 300:
            final = answered.get("X-Slack-No-Retry") == "1"
            return Attempt(now, "http_error", str(status), final=final)
        return Attempt(now, "acked", str(status), response=_decoded(answer))

    async def post(
        self,
        body: bytes,
        *,
        content_type: str = "application/json",
        secret: str | None = None,
        timestamp: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes, dict[str, str]]:
        """POST to the request URL; a wrong secret or an old timestamp make a forgery.

        The signature's time is real, whatever the double's clock says: the app compares it with
        its own.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timestamp = int(time.time()) if timestamp is None else timestamp
        secret = self.slack.app.signing_secret if secret is None else secret
        signed = {
            "Content-Type": content_type,
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": str(timestamp),
            "X-Slack-Signature": signature(secret, timestamp, body),
            **(headers or {}),
        }
        assert self.slack.request_url is not None
        async with self._session.post(self.slack.request_url, data=body, headers=signed) as answer:
            return answer.status, await answer.read(), dict(answer.headers)

    async def verify_url(self) -> bool:
        """Do what Slack does when a request URL is entered: the app must repeat a challenge."""
        challenge = secrets.token_urlsafe(24)
        payload = {
            "token": self.slack.app.verification_token,
            "challenge": challenge,
            "type": "url_verification",
        }
        status, answer, _ = await self.post(json.dumps(payload).encode())
        return status == 200 and challenge in answer.decode()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _encoded(delivery: Delivery) -> tuple[bytes, str]:
    """Events are JSON, clicks JSON within a form, commands a form."""
    if delivery.kind == "events_api":
        return json.dumps(delivery.payload).encode(), "application/json"
    fields: Any = delivery.payload
    if delivery.kind == "interactive":
        fields = {"payload": json.dumps(delivery.payload)}
    return urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded"


def _decoded(answer: bytes) -> Any:
    if not answer:
        return None
    try:
        return json.loads(answer)
    except ValueError:
        return {"text": answer.decode()}
