"""Replies that are being generated, as a process holds them in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar

from colloquy_server.context.builder import Request
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.repository.usage import Spent
from colloquy_server.database.rows import MessageRow
from colloquy_server.providers.client import TokenUsage
from colloquy_server.providers.models import Model
from colloquy_server.replies.prices import told


@dataclass(slots=True, eq=False)
class LiveText:
    """The text so far of a reply that is being generated, as watchers may see it."""

    message_id: str
    attempt: int
    text: str

    is_mirror: ClassVar[bool] = False


@dataclass(slots=True, eq=False)
class LiveReply(LiveText):
    """A reply that this process owns. `text` is what watchers may see, `pending` what came since.

    `deadline` is the time, by this process's own clock, at which its lease is over unless it was
    renewed: from then on it must not write or send anything.
    """

    conversation_id: str
    account_id: str
    model: str
    """Who writes it, as its row says: whose text it is, once there is one."""
    requested_model: str
    asked_model: str
    """Who is asked at the moment; its first text makes it the model."""
    epoch: int
    position: int
    version: int
    """That of the conversation when this process came to own the reply."""
    deadline: float
    followed_by: str
    """The id that the provider is given and the log has for it: that of the call which asked for
    it, where that is known, else its own."""
    is_first_request: bool
    """Whether no provider was asked yet: the first text then needs no new attempt."""
    pending: list[str] = field(default_factory=list)
    size: int = 0
    """Bytes of UTF-8 that came in this attempt."""
    saved: int = 0
    """Code points of this attempt that are stored."""
    finish_reason: str = ""
    usage: TokenUsage | None = None
    """What the provider counted for the last request, as it knows it in the end."""
    spent: TokenUsage | None = None
    """What it counted for all requests: those that failed cost too."""
    cost_usd: float = 0.0
    """Of what was spent."""
    asked: Request | None = None
    """What `asked_model` is asked."""
    unbooked: dict[str, Spent] = field(default_factory=dict)
    """What was used of each model and is not booked yet: with estimates for requests that were cut
    off, of which no provider told anything."""
    request: Request | None = None
    """What `model` was asked, as it is noted in the end."""
    mirrored: int = 0
    """Code points that went out on the bus, to the mirrors of other processes."""
    wanted_until: float = 0.0
    """Until when, in loop time, mirrors of other processes want more."""
    is_cancelled: bool = False
    is_fenced: bool = False
    generation: asyncio.Task[Outcome] | None = None
    task: asyncio.Task[None] | None = None

    @property
    def ids(self) -> dict[str, str]:
        """By what it is found in the log."""
        return {"message_id": self.message_id, "request_id": self.followed_by}

    @staticmethod
    def of(row: MessageRow, deadline: float, *, is_new: bool, followed_by: str = "") -> LiveReply:
        """The reply of a row that this process has just come to own."""
        return LiveReply(
            message_id=row.id,
            attempt=row.attempt,
            text=row.content,
            conversation_id=row.conversation_id,
            account_id=row.account_id,
            model=row.model,
            requested_model=row.asked_for,
            asked_model=row.model,
            epoch=row.epoch,
            position=row.position,
            version=row.version,
            deadline=deadline,
            followed_by=followed_by or row.id,
            is_first_request=is_new,
            saved=len(row.content),
        )

    def ask(self, request: Request) -> None:
        """`asked_model` is asked this."""
        self.asked = request
        if self.asked_model == self.model:
            self.request = request

    def spend(self, model: Model, usage: TokenUsage) -> None:
        """Adds what a model's provider counted for a request."""
        self.usage = usage
        self.spent = usage if self.spent is None else self.spent + usage
        self.cost_usd += model.cost_usd(
            usage.input_tokens, usage.output_tokens, usage.cached_tokens
        )
        self.owe(told(model, usage))

    def owe(self, spent: Spent) -> None:
        """Adds what is to be booked of a model."""
        before = self.unbooked.get(spent.model)
        self.unbooked[spent.model] = spent if before is None else before.plus(spent)

    def whole_text(self) -> str:
        """All text that came."""
        return self.text + "".join(self.pending)

    def publish(self) -> None:
        """Lets watchers see all text that came."""
        self.text = self.whole_text()
        self.pending.clear()

    def begin(self, attempt: int, text: str) -> None:
        """Replaces the last attempt's text by the first text of a new one."""
        self.model, self.request = self.asked_model, self.asked
        self.attempt = attempt
        self.text = text
        self.pending.clear()
        self.size = len(text.encode())
        self.saved = self.mirrored = len(text)
