"""The tokens that a provider counted, in whatever parts and under whatever names it says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the provider counted them: what it thought is output, what it had kept is input."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Those of the input that it had kept from an earlier request."""

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class UsageReader:
    """Takes one answer's counts. They come once, in parts, or again and again as they grow."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def feed(self, usage: object) -> None:
        """Take in a usage object, if it is one."""
        if not isinstance(usage, dict):
            return
        self._take("prompt", usage, "prompt_tokens")
        self._take("completion", usage, "completion_tokens", "output_tokens")
        self._take("total", usage, "total_tokens")
        self._take("thought", usage.get("completion_tokens_details"), "reasoning_tokens")
        self._take("thought", usage.get("output_tokens_details"), "reasoning_tokens")
        self._take("thought", usage, "reasoning_tokens")
        self._take("cached", usage.get("prompt_tokens_details"), "cached_tokens")
        self._take("cached", usage, "prompt_cache_hit_tokens", "cached_tokens")
        self._take("cached", usage.get("input_tokens_details"), "cached_tokens")
        # Anthropic's own counts are of what it had not kept.
        self._take("uncached", usage, "input_tokens")
        self._take("cache_read", usage, "cache_read_input_tokens")
        self._take("cache_written", usage, "cache_creation_input_tokens")

    def usage(self) -> TokenUsage | None:
        """What was counted; None if nothing was."""
        counts = self._counts
        cached = max(counts.get("cached", 0), counts.get("cache_read", 0))
        apart = counts.get("cache_read", 0) + counts.get("cache_written", 0)
        prompt, completion, total = map(counts.get, ("prompt", "completion", "total"))
        if prompt is None and "uncached" in counts:
            prompt = counts["uncached"] + apart
        if prompt is None:
            if total is None or completion is None:
                return None
            prompt = max(0, total - completion)
        if completion is None:
            completion = 0 if total is None else max(0, total - prompt)
        thought = counts.get("thought", 0)
        beyond = total - prompt - completion if total is not None else 0
        if beyond > 0 and beyond == apart:
            prompt += beyond
        elif beyond > 0:  # Google and xAI count what was thought in the total alone
            completion += beyond
        elif thought > completion:  # so it cannot be among them
            completion += thought
        return TokenUsage(prompt, completion, min(cached, prompt))

    @property
    def has_thought(self) -> bool:
        """Whether the provider counted thinking, by name or in the total alone."""
        usage = self.usage()
        is_apart = usage is not None and usage.output_tokens > self._counts.get("completion", 0)
        return self._counts.get("thought", 0) > 0 or is_apart

    def _take(self, name: str, counts: object, *keys: str) -> None:
        if not isinstance(counts, dict):
            return
        for key in keys:
            value = counts.get(key)
            if type(value) is int and 0 <= value < 2**31:
                # A later part may say 0 of what an earlier one counted.
                self._counts[name] = max(value, self._counts.get(name, 0))
