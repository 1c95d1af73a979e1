"""Numbers and times of a spreadsheet as people see them, without rounding them away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import lru_cache

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"'
    r"|\[\$(?P<currency>[^\]-]*)[^\]]*\]"
    r"|\[[^\]]*\]"  # a colour, a condition or a language
    r"|\\(?P<escaped>.)|[_*]."
    r"|(?P<sign>[€$£¥₹₽₩%])"
    r"|(?P<digits>[0#?][0#?,]*(?:\.[0#?]*)?,*)"
)
"""The parts of a number format that matter here."""


@dataclass(frozen=True, slots=True)
class _Form:
    before: str = ""
    after: str = ""
    decimals: int = 0
    zeros: int = 0
    """Digits before the point that are always shown, as in numbers that are names."""
    is_percent: bool = False


@lru_cache(maxsize=1_000)
def _form(number_format: str) -> _Form:
    """What a format adds to a number; of its sections the first, which positive numbers have."""
    before = after = digits = ""
    for token in _TOKEN.finditer(number_format.partition(";")[0]):
        if token["digits"]:
            if after.strip():  # signs between digits, as in telephone numbers
                return _Form()
            digits += token["digits"]
            continue
        said = token["quoted"] or token["currency"] or token["escaped"] or token["sign"] or ""
        if digits:
            after += said
        else:
            before += said
    # Shown in thousands, of which its unit is, or with an exponent.
    if digits.endswith(",") or "E+" in number_format:
        return _Form()
    whole, _, decimals = digits.partition(".")
    return _Form(
        "" if before == "%" else before.strip(),
        after.strip(),
        len(decimals),
        whole.count("0"),
        "%" in before + after,
    )


def shown(value: object, number_format: str) -> str:
    """A cell's value with its unit; dates without a time that nobody wrote."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        has_time = value.time() != time() or "h" in number_format.lower()
        return value.isoformat(" ", "auto") if has_time else value.date().isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (int, float)):
        return _number(value, number_format)
    return str(value)


def _number(value: float, number_format: str) -> str:
    form = _form(number_format)
    if form.is_percent:
        value *= 100
    if form.decimals and round(value, form.decimals) == value:
        text = f"{value:.{form.decimals}f}"
    else:
        text = str(value) if isinstance(value, int) else f"{value:.15g}"
    if form.zeros > 1 and text.isdigit():
        text = text.zfill(form.zeros)
    after = form.after
    if after and after != "%":
        after = f" {after}"
    return f"{form.before}{text}{after}"
