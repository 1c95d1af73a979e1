"""Titles: after the first finished exchange a model names the conversation."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Sequence

import orjson
import structlog
from colloquy.operations.log_safety import name_error

from colloquy_server import tracing
from colloquy_server.context.token_estimates import estimate_tokens
from colloquy_server.database.models import MICROS
from colloquy_server.database.repository import titles as title_rows
from colloquy_server.database.repository.titles import Exchange
from colloquy_server.database.repository.usage import Spent
from colloquy_server.database.transactions import Database, DatabaseUnavailable
from colloquy_server.errors import NotFound
from colloquy_server.providers.catalog import Catalog
from colloquy_server.providers.client import ProviderError, Providers
from colloquy_server.replies.feeds import Feeds
from colloquy_server.replies.prices import spent_of

log = structlog.get_logger()

MAX_WORDS = 6

_MAX_CHARACTERS = 80
_QUOTES = re.compile(
    r"[\"«»‹›„“”‟‚〝〞〟「」『』《》〈〉]|(?<!\w)['‘’‛]|['‘’‛](?!\w)"  # noqa: RUF001
)
"""Quotes of all scripts; an apostrophe stands within a word."""

_STARTS = "#>-_:;, \t"
_MAY_END = frozenset(")]}%#‰")
"""Punctuation that belongs to the word before it."""

_EXCERPT = 1_000
"""Characters of prompt and reply that the title model sees."""

_MAX_OUTPUT_TOKENS = 64
_MAX_THINKING_TOKENS = 4_096
"""What a title model of a provider may write: some think first, and what they think counts. The
local one does not, and may ramble."""

_INSTRUCTION = (
    f"Name the conversation between the lines in at most {MAX_WORDS} words, in its own language."
    " Answer with the title alone, without quotes."
)


class Titles:
    """Makes titles in the background."""

    def __init__(
        self, db: Database, feeds: Feeds, catalog: Catalog, providers: Providers, lease_ttl: float
    ) -> None:
        self.making: dict[str, asyncio.Task[None]] = {}
        """The conversations whose titles are being made, whose lease has to be renewed."""
        self._db = db
        self._feeds = feeds
        self._catalog = catalog
        self._providers = providers
        self._ttl = int(lease_ttl * MICROS)

    def begin(self, account_id: str, conversation_id: str) -> None:
        """Makes a title that is owed, unless that is under way. Failure is logged and harmless."""
        if conversation_id in self.making:
            return
        task = asyncio.create_task(self._make(account_id, conversation_id))
        self.making[conversation_id] = task
        task.add_done_callback(lambda _: self.making.pop(conversation_id, None))

    async def stop(self) -> None:
        """Gives up what is under way; it stays owed."""
        tasks = list(self.making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, account_id: str, conversation_id: str) -> None:
        tracing.request_id.set(conversation_id)
        exchange, spent = None, list[Spent]()
        try:
            exchange = await self._db.write(
                account_id, title_rows.claim, conversation_id, self._ttl
            )
            if exchange is None:
                return
            answer = await self._ask(exchange, spent)
            title = tidy(answer) or tidy(exchange.prompt)
            if title and await self._set(account_id, conversation_id, exchange, title, spent):
                spent.clear()
        except NotFound:  # deleted meanwhile
            pass
        except ProviderError as error:
            log.warning("no title", conversation_id=conversation_id, **error.log_fields())
        except DatabaseUnavailable:  # it stays owed, and who asks next estimates it if need be
            spent.clear()
            log.warning("database is away", work="title", conversation_id=conversation_id)
        except Exception:
            log.exception("no title", conversation_id=conversation_id)
        if exchange is not None and spent:
            await self._book(account_id, conversation_id, exchange, spent)

    async def _set(
        self,
        account_id: str,
        conversation_id: str,
        exchange: Exchange,
        title: str,
        spent: Sequence[Spent],
    ) -> bool:
        """Stores a title with what was used for it; says whether it did."""
        change = await self._db.write(
            account_id, title_rows.set_title, conversation_id, title, exchange, spent
        )
        if change is not None:
            self._feeds.apply(change)
        return change is not None

    async def _book(
        self, account_id: str, conversation_id: str, exchange: Exchange, spent: Sequence[Spent]
    ) -> None:
        """Books what was used for a title that was not stored."""
        try:
            await self._db.write(
                account_id, title_rows.book, account_id, conversation_id, exchange, spent
            )
        except (NotFound, DatabaseUnavailable) as error:
            log.warning("title not booked", error=name_error(error))

    async def _ask(self, exchange: Exchange, spent: list[Spent]) -> str:
        """What the model answers; `spent` gets what that used, and an estimate of what earlier
        asks did that were cut off."""
        model = self._catalog.title()
        if model is None:
            return ""
        prompt, reply = exchange.prompt[:_EXCERPT], exchange.reply[:_EXCERPT]
        shown = f"---\nUser: {prompt}\n\nAssistant: {reply}\n---"
        request = [
            {"role": "system", "content": _INSTRUCTION},
            {"role": "user", "content": f"{shown}\n\n{_INSTRUCTION}"},
        ]
        asked = estimate_tokens(request[0]["content"] + request[1]["content"])
        spent += [spent_of(model, None, asked, "")] * exchange.cut_off
        limit = _MAX_OUTPUT_TOKENS if model.provider.weights else _MAX_THINKING_TOKENS
        async with self._providers.open(
            model, orjson.dumps(request), max_output_tokens=min(limit, model.max_output_tokens)
        ) as stream:
            came: list[str] = []
            try:
                async for piece in stream:
                    came.append(piece)  # noqa: PERF401 - what came stays when it breaks off
                return "".join(came)
            except ProviderError as error:
                if error.is_blank:  # a short output is soon used up by thinking
                    return ""
                raise
            finally:
                spent.append(spent_of(model, stream.usage, asked, "".join(came)))


def tidy(answer: str) -> str:
    """A title out of a model's answer: its first line that says something, at most six words,
    without quotes, markup or end punctuation."""
    for line in answer.splitlines():
        line = _QUOTES.sub("", re.sub(r"[\x00-\x08\x0e-\x1f\x7f`*]", "", line))
        line = re.sub(r"^(title|name)[\s_]*:", "", line.lstrip(_STARTS), flags=re.I)
        words = line.lstrip(_STARTS).split()[:MAX_WORDS]
        title = _without_end(" ".join(words)[:_MAX_CHARACTERS])
        if title:
            return title
    return ""


def _without_end(title: str) -> str:
    while title and title[-1] not in _MAY_END and unicodedata.category(title[-1])[0] in "PZ":
        title = title[:-1]
    return title
