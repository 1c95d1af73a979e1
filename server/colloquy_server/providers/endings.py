"""How an answer ended: what its finish reason means, and what it was if it had no text."""

from __future__ import annotations

import re

from colloquy_server.providers.errors import ProviderError

_WORDS = {
    "stop": ("stop", "end_turn", "stop_sequence", "eos", "eos_token"),
    "length": (
        *("length", "max_tokens", "max_output_tokens", "model_length", "max_length"),
        "model_context_window_exceeded",
    ),
    "content_filter": (
        *("content_filter", "content_filtered", "content_policy_violation", "safety"),
        *("recitation", "blocklist", "prohibited_content", "spii", "image_safety", "refusal"),
        *("guardrail_intervened", "sensitive", "blocked"),
    ),
    "error": (
        *("error", "engine_error", "server_error", "network_error", "malformed_response"),
        *("insufficient_system_resource", "malformed_function_call", "unexpected_tool_call"),
        *("abort", "aborted", "cancelled", "timeout"),
    ),
}
_NORMAL = {word: reason for reason, words in _WORDS.items() for word in words}

THOUGHT = frozenset(
    {"reasoning_content", "reasoning", "reasoning_details", "reasoning_text", "thinking"}
    | {"thinking_blocks", "thoughts"}
)
"""Fields of a message that hold what a model thinks."""

CALLED = frozenset({"tool_calls", "function_call"})
"""Fields of a message by which a model calls a tool."""

PAINTED = frozenset({"images", "image_url", "image"})
"""Fields and parts of a message that hold pictures."""

SPOKEN = frozenset({"audio", "input_audio", "output_audio"})
"""Fields and parts of a message that hold sound."""

_THINKING_ONLY = (
    "The model used its whole output on thinking and had none left for an answer. "
    "Ask for something smaller, or choose another model."
)
_NOTHING_BEFORE_LIMIT = (
    "The model reached its output limit before it said anything. "
    "Shorten the message, or choose another model."
)
_ONLY_THOUGHT = "The model thought, but gave no answer. Try again, or choose another model."
_ONLY_CALLED = (
    "The model asked for a tool instead of answering, and there is none here. "
    "Put the question another way, or choose another model."
)
_ONLY_PAINTED = "The model answered with a picture alone, which cannot be shown here."
_ONLY_SPOKEN = "The model answered with sound alone, which cannot be played here."
_NOTHING = "The AI provider's answer was empty. Try again."


def finish_reason_of(value: object) -> str | None:
    """A finish reason by the name that the API has for it; None for what is none, as `"null"`.
    One that nobody knows stays as it is."""
    if not isinstance(value, str):
        return None
    word = value.strip()
    if word.lower() in ("", "null", "none", "undefined"):
        return None
    # Google says `content_filter: SAFETY`.
    parts = re.split(r"[^a-z_]+", word.lower())
    return next((_NORMAL[part] for part in parts if part in _NORMAL), word)


def blank(finish_reason: str | None, fields: set[str]) -> ProviderError:
    """The error of an answer without text, of which the message had these fields. It may be had
    again only if there was nothing at all: all else was paid for, and would come again."""
    has_thought = not fields.isdisjoint(THOUGHT)
    if finish_reason == "length":
        told = _THINKING_ONLY if has_thought else _NOTHING_BEFORE_LIMIT
    elif not fields.isdisjoint(CALLED) or finish_reason in CALLED:
        told = _ONLY_CALLED
    elif not fields.isdisjoint(PAINTED):
        told = _ONLY_PAINTED
    elif not fields.isdisjoint(SPOKEN):
        told = _ONLY_SPOKEN
    elif has_thought:
        told = _ONLY_THOUGHT
    else:
        told = _NOTHING
    return ProviderError(
        "PROVIDER_UNAVAILABLE",
        told,
        retryable=told is _NOTHING,
        detail=f"no text, finish reason {_shown(finish_reason)}",
        is_blank=True,
    )


def _shown(finish_reason: str | None) -> str:
    """A finish reason as the log may have it."""
    is_word = finish_reason is not None and re.fullmatch("[A-Za-z_]{1,40}", finish_reason)
    return str(finish_reason) if is_word else "none"
