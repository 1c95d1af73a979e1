"""Replies that are being generated, as a process holds them in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar

from colloquy_server.context.builder import Request
from colloquy_server.database.repository.leases import Outcome
from colloquy_server.database.rows import MessageRow
from colloquy_server.providers.client import TokenUsage


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
    epoch: int
    position: int
    version: int
    """That of the conversation when this process came to own the reply."""
    deadline: float
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
    request: Request | None = None
    """What the model was asked, as it is noted in the end."""
    mirrored: int = 0
    """Code points that went out on the bus, to the mirrors of other processes."""
    wanted_until: float = 0.0
    """Until when, in loop time, mirrors of other processes want more."""
    is_cancelled: bool = False
    is_fenced: bool = False
    generation: asyncio.Task[Outcome] | None = None
    task: asyncio.Task[None] | None = None

    @staticmethod
    def of(row: MessageRow, deadline: float, *, is_new: bool) -> LiveReply:
        """The reply of a row that this process has just come to own."""
        return LiveReply(
            message_id=row.id,
            attempt=row.attempt,
            text=row.content,
            conversation_id=row.conversation_id,
            account_id=row.account_id,
            model=row.model,
            epoch=row.epoch,
            position=row.position,
            version=row.version,
            deadline=deadline,
            is_first_request=is_new,
            saved=len(row.content),
        )

    def spend(self, usage: TokenUsage | None, cost_usd: float) -> None:
        """Adds what a request used."""
        self.usage = usage
        if usage is not None:
            self.spent = usage if self.spent is None else self.spent + usage
            self.cost_usd += cost_usd

    def whole_text(self) -> str:
        """All text that came."""
        return self.text + "".join(self.pending)

    def publish(self) -> None:
        """Lets watchers see all text that came."""
        self.text = self.whole_text()
        self.pending.clear()

    def begin(self, attempt: int, text: str) -> None:
        """Replaces the last attempt's text by the first text of a new one."""
        self.attempt = attempt
        self.text = text
        self.pending.clear()
        self.size = len(text.encode())
        self.saved = self.mirrored = len(text)
