"""How many tokens a text has, about.

Tokenisers are each model's own, and the one library that has OpenAI's (tiktoken) downloads its
tables when it is first used, which a server without a network cannot. So this is an estimate, which
the counts that providers report correct, model by model, as long as the process runs.
"""

from __future__ import annotations

from collections import OrderedDict

_BYTES_PER_TOKEN = 4
"""English text has about four bytes of UTF-8 a token with current tokenisers."""

_PER_MESSAGE = 8
"""Tokens for what surrounds a message: role, name and separators."""

_LEAST, _MOST = 0.75, 3.0
"""Between these the corrections stay: what lies outside says something else than how long a token
is, such as a count that leaves out what was cached."""

_WEIGHT = 0.3
"""Of the newest count in a correction."""

_KEPT = 10_000
"""Corrections that are kept, those used last."""

_MIN_LEARNED_TOKENS = 300
"""Tokens of a request below which its count says little about the next one."""


def estimate_tokens(text: str) -> int:
    """About how many tokens a message with this text takes, uncorrected."""
    return len(text.encode()) // _BYTES_PER_TOKEN + _PER_MESSAGE


class TokenEstimates:
    """What was learned about each account's texts with each model: its tokens for one of ours."""

    def __init__(self) -> None:
        self._factors: OrderedDict[tuple[str, str], float] = OrderedDict()

    def factor(self, account_id: str, model_id: str) -> float:
        """What an estimate is to be multiplied with."""
        return self._factors.get((account_id, model_id), 1.0)

    def learn(self, account_id: str, model_id: str, estimated: int, counted: int) -> None:
        """Takes in what a provider counted for a request that was estimated, uncorrected."""
        if min(estimated, counted) < _MIN_LEARNED_TOKENS:
            return
        before = self.factor(account_id, model_id)
        self._set(account_id, model_id, before + _WEIGHT * (counted / estimated - before))

    def too_low(self, account_id: str, model_id: str) -> None:
        """Takes in that a request was too long although it was estimated to fit."""
        self._set(account_id, model_id, self.factor(account_id, model_id) * 1.25)

    def _set(self, account_id: str, model_id: str, factor: float) -> None:
        key = (account_id, model_id)
        self._factors[key] = min(max(factor, _LEAST), _MOST)
        self._factors.move_to_end(key)
        if len(self._factors) > _KEPT:
            self._factors.popitem(last=False)
