"""When a workspace's messages may be posted and edited, so that Slack never says 429 for long.

Slack counts `chat.update` per workspace: all live replies share one budget. An edit on the way is
worth little, since the next one says more; the last edit of a reply is worth everything. So edits
on the way leave room for the last edits of all replies that are growing.

Nothing here waits: callers learn for how long to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

EDITS = 48
"""Edits in any minute. Slack's tier 3 is 50 and more; two are left for what was on its way."""

INTERIM_EDITS = 45
"""Of these, edits on the way; and each live reply takes one off for its last edit."""

_MINUTE = 60.0
_MIN_INTERVAL = 1.2
_INTERVAL_PER_REPLY = 1.3
"""Seconds between two edits of a reply: at least, and for each reply that is live."""

_SLOWDOWN = 60.0
_SLOWDOWN_FACTOR = 2.0
"""After a 429, edits come so many times less often for so many seconds."""

_POST_GAP = 1.0
"""Seconds between two posts in a channel, as Slack's reference says of chat.postMessage."""

STREAM_STARTS = 18
"""Streams begun in any minute: Slack's tier 2 is 20 and more."""

_APPENDS_A_MINUTE = 90
"""Slack's tier 4 is 100 and more, for all streams of a workspace."""

READS = 40
"""Pages of threads in any minute: Slack's tier 3 is 50 and more, and a restart looks up posts."""

_MAX_CHANNELS = 1_000


class RateLimiter:
    """The budgets of one workspace. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.live: set[int] = set()
        """The requests whose replies are growing; each will need a last edit."""
        self._clock = clock
        self._edits: deque[float] = deque()
        self._starts: deque[float] = deque()
        self._reads: deque[float] = deque()
        self._no_read_until = 0.0
        self._paused_until = 0.0
        self._slow_until = 0.0
        self._next_post: dict[str, float] = {}

    @property
    def interval(self) -> float:
        """Seconds between two edits of one reply."""
        interval = max(_MIN_INTERVAL, _INTERVAL_PER_REPLY * len(self.live))
        return interval * _SLOWDOWN_FACTOR if self._clock() < self._slow_until else interval

    @property
    def append_interval(self) -> float:
        """Seconds between two pieces of one stream."""
        return max(_MIN_INTERVAL, len(self.live) * _MINUTE / _APPENDS_A_MINUTE)

    def acquire_stream(self) -> bool:
        """Take the start of a stream from its budget. Returns whether there was one."""
        now = self._clock()
        _drop_expired(self._starts, now)
        if now < self._paused_until or len(self._starts) >= STREAM_STARTS:
            return False
        self._starts.append(now)
        return True

    def acquire_interim_edit(self) -> bool:
        """Take an edit on the way from the budget. Returns whether there was one."""
        now = self._clock()
        _drop_expired(self._edits, now)
        if now < self._paused_until or len(self._edits) + len(self.live) >= INTERIM_EDITS:
            return False
        self._edits.append(now)
        return True

    def acquire_final_edit(self) -> float:
        """Take a last edit from the budget: returns 0, or the seconds until asking again."""
        now = self._clock()
        _drop_expired(self._edits, now)
        if now < self._paused_until:
            return self._paused_until - now
        if len(self._edits) >= EDITS:
            return max(0.01, self._edits[0] + _MINUTE - now)
        self._edits.append(now)
        return 0.0

    def acquire_read(self) -> float:
        """Take a page of a thread from the budget: returns 0, or the seconds until asking again."""
        now = self._clock()
        _drop_expired(self._reads, now)
        if now < self._no_read_until:
            return self._no_read_until - now
        if len(self._reads) >= READS:
            return max(0.01, self._reads[0] + _MINUTE - now)
        self._reads.append(now)
        return 0.0

    def back_off_reads(self, retry_after: float) -> None:
        """Slack said 429 to a read: nothing is read for so long."""
        self._no_read_until = max(self._no_read_until, self._clock() + retry_after)

    def reserve_post(self, channel_id: str) -> float:
        """Reserve a place among the channel's posts: returns the seconds until it is due."""
        now = self._clock()
        due = max(now, self._next_post.get(channel_id, 0.0))
        self._next_post.pop(channel_id, None)
        self._next_post[channel_id] = due + _POST_GAP
        if len(self._next_post) > _MAX_CHANNELS:
            del self._next_post[next(iter(self._next_post))]
        return due - now

    def back_off(self, retry_after: float) -> None:
        """Slack said 429 to an edit: nothing is edited for so long, and less for a while."""
        now = self._clock()
        self._paused_until = max(self._paused_until, now + retry_after)
        self._slow_until = max(self._slow_until, now + retry_after + _SLOWDOWN)


def _drop_expired(moments: deque[float], now: float) -> None:
    while moments and moments[0] <= now - _MINUTE:
        moments.popleft()
