"""Histories that are kept ready to send, so that a long conversation is not read and made into JSON
again for each reply.

What is kept is of one version of a conversation, which whoever uses it compares while holding the
conversation's lock: any change since makes it useless, whoever made it.
"""

from __future__ import annotations

from collections import OrderedDict

from colloquy_server.database.repository.history import Earlier

MAX_BYTES = 64 << 20
"""Of all that is kept."""


class KeptHistories:
    """What was said in the conversations that were used last. Safe to use from several threads, as
    long as one alone puts and forgets."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[int, Earlier]] = OrderedDict()

    def get(self, conversation_id: str, version: int) -> Earlier | None:
        """All that was said in a conversation up to this version, if it is kept."""
        kept_version, earlier = self._kept.get(conversation_id, (0, None))
        return earlier if kept_version == version else None

    def put(self, conversation_id: str, version: int, earlier: Earlier) -> None:
        """Keeps what was said; what was used longest ago gives way."""
        self.forget(conversation_id)
        self._kept[conversation_id] = version, earlier
        self._bytes += len(earlier.messages)
        while self._bytes > self._max_bytes:
            self.forget(next(iter(self._kept)))

    def forget(self, conversation_id: str) -> None:
        """Drops what is kept of a conversation."""
        kept = self._kept.pop(conversation_id, None)
        if kept is not None:
            self._bytes -= len(kept[1].messages)
