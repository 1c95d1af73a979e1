"""Posts one event to its receiver, and says what came of it.

Nothing of an answer but its status and `Retry-After` is read. Redirects are not followed: what is
signed for one receiver goes to no other, and not inside. Each attempt has a connection of its own,
whose address was checked for it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

from colloquy_server.database.models import MICROS
from colloquy_server.database.repository.deliveries import Claimed
from colloquy_server.database.values import EventType
from colloquy_server.providers.connection import certificates
from colloquy_server.webhooks.addresses import NotPublic, PublicResolver, public_socket
from colloquy_server.webhooks.signing import sign

_MAX_RETRY_AFTER = 86_400.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, in a sentence that tells nothing of the inside."""

    error: str
    retry_after: float = 0.0
    """Seconds that the receiver asked to be left alone for."""
    is_final: bool = False
    """Whether the receiver wants nothing more."""


class Sender:
    """Posts events."""

    def __init__(self, timeout: float, *, allow_private: bool) -> None:
        """`timeout` in seconds is for a whole attempt; `allow_private` as for `check_url`."""
        self._timeout = timeout
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def post(self, claimed: Claimed) -> Failure | None:
        """Posts an event; None when its receiver took it."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(claimed)
        except TimeoutError:
            return Failure("The receiver did not answer in time.")
        except aiohttp.ClientSSLError:
            return Failure("The receiver's certificate is not one that is trusted.")
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            if _is_not_public(error):
                return Failure("The receiver's address is not one of the public internet.")
            return Failure("The receiver could not be reached.")

    async def _post(self, claimed: Claimed) -> Failure | None:
        body = body_of(claimed)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Colloquy/{version('colloquy-server')}",
            "webhook-id": claimed.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(claimed.secret, claimed.id, now, body),
        }
        session = await self._opened()
        response = await session.post(
            claimed.url, data=body, headers=headers, allow_redirects=False
        )
        status, retry_after = response.status, response.headers.get("Retry-After", "")
        response.close()
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return Failure(f"The receiver answered {status}: redirects are not followed.")
        return Failure(f"The receiver answered {status}.", _seconds(retry_after), status == _GONE)

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = await asyncio.to_thread(certificates)
            is_free = self._allow_private
            self._session = self._session or aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=None if is_free else PublicResolver(),
                    socket_factory=None if is_free else public_socket,
                    use_dns_cache=False,
                    ssl=context,
                    force_close=True,
                    limit=0,  # there are only so many attempts at a time
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session


def body_of(claimed: Claimed) -> bytes:
    """What is posted: the same bytes at every attempt."""
    time_of = datetime.fromtimestamp(claimed.create_time / MICROS, UTC)
    about = {"account_id": claimed.account_id}
    if claimed.conversation_id:
        about["conversation_id"] = claimed.conversation_id
        about["conversation_external_id"] = claimed.conversation_external_id
    return orjson.dumps(
        {
            "type": EventType(claimed.event_type).event,
            "timestamp": time_of.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": about | orjson.loads(claimed.data),
        }
    )


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks for: seconds, or a date."""
    if retry_after.isdecimal():
        wanted = float(retry_after[:9])
    else:
        try:
            wanted = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(wanted, 0.0), _MAX_RETRY_AFTER)


def _is_not_public(error: BaseException) -> bool:
    """Whether a check of addresses is behind an error, which libraries wrap."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, NotPublic):
        seen = seen.__cause__ or seen.__context__
    return seen is not None
