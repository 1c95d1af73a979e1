"""How often authentication may fail from one address."""

from __future__ import annotations

from collections import OrderedDict

from colloquy_server.api.peers import network_of
from colloquy_server.api.rate_limiter import RateLimiter

_ADDRESSES = 4_096
"""Addresses that are remembered; those that failed last longest."""


class Failures:
    """A rate limiter for each address from which authentication fails."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def of(self, address: str) -> RateLimiter:
        """The rate limiter of an address."""
        network = network_of(address)
        limiter = self._limiters.get(network)
        if limiter is None:
            limiter = self._limiters[network] = RateLimiter(self.per_minute / 60, self.per_minute)
            if len(self._limiters) > _ADDRESSES:
                self._limiters.popitem(last=False)
        else:
            self._limiters.move_to_end(network)
        return limiter
