"""What replies cost, by the catalogue: those that were cut off, and those that may be accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from colloquy_server.context.content_parts import picture_tokens
from colloquy_server.context.token_estimates import estimate_tokens
from colloquy_server.database.models import Attachment
from colloquy_server.database.repository.budget_counters import Expect, Expected
from colloquy_server.database.repository.usage import NANOS, Spent, estimate
from colloquy_server.files.filetypes import Kind
from colloquy_server.providers.models import Model
from colloquy_server.providers.usage import TokenUsage

_USUAL_OUTPUT = 500
"""Tokens that a reply is expected to have: most have a few hundred. Were the most that a model may
write expected, which is 16,000 and more, a budget would refuse while most of it is left; what a
longer reply uses beyond this is counted at its end."""


def nanos(cost_usd: float) -> int:
    """A price in billionths of a US dollar."""
    return round(cost_usd * NANOS)


def priced(model: Model | None, spent: Spent) -> Spent:
    """An estimate with its price, of no more than the model's window holds; a model that is not in
    the catalogue any more costs nothing."""
    if model is None:
        return spent
    asked = min(spent.input_tokens, model.context_window)
    return replace(
        spent,
        input_tokens=asked,
        estimated_tokens=spent.estimated_tokens - spent.input_tokens + asked,
        cost_nanos=nanos(model.cost_usd(asked, spent.output_tokens)),
    )


def spent_of(model: Model, usage: TokenUsage | None, asked: int, text: str) -> Spent:
    """What an answer used, as its provider counted; if it did not, an estimate of the `asked`
    tokens and the text that came."""
    if usage is None:
        return priced(model, estimate(model.id, asked, text))
    return told(model, usage)


def told(model: Model, usage: TokenUsage) -> Spent:
    """What an answer used, as its provider counted."""
    cost = model.cost_usd(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    return Spent(
        model.id,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        cost_nanos=nanos(cost),
    )


def expectation(
    model: Model, system_prompt: str, content: str, files: Sequence[Attachment]
) -> Expect:
    """Says what a reply to this prompt may use: what the conversation had so far and the prompt, as
    far as the model takes it, and an answer of a usual length."""

    def expect(known_tokens: int) -> Expected:  # asked by budgets alone, which few accounts have
        asked = known_tokens + estimate_tokens(system_prompt) + estimate_tokens(content)
        if "image" in model.input_kinds:
            asked += sum(picture_tokens(file) for file in files if file.kind == Kind.IMAGE)
        return expected_of(model, asked)

    return expect


def expected_of(model: Model, asked: int) -> Expected:
    """What a reply may use whose model is asked about so many tokens."""
    written = min(_USUAL_OUTPUT, model.max_output_tokens)
    read = min(asked, model.context_window - written)
    return Expected(read + written, nanos(model.cost_usd(read, written)))
