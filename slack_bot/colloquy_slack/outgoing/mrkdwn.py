"""Markdown as Slack's own mrkdwn, for where Slack refuses Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it.token import Token
from slackify_markdown.slackify import SlackifyMarkdown

from colloquy_slack.mentions import BREAK, neutralise
from colloquy_slack.outgoing.plain_words import plain_words

SECTION = 2_900
"""Characters of a section; Slack takes 3,000."""

_ROW = re.compile(r"^ {0,3}\|")
_DELIMITER = re.compile(r"^[ \t|:-]*-[ \t|:-]*$")
_CELLS = re.compile(r"(?<!\\)\|")
_LINK = re.compile(r"!?\[[^\]\n]*\]\([^)\s]+(?:[ \t]+\"[^\"\n]*\")?\)|<https?://[^>\s]+>")
_ENTITY_START = re.compile(r"&[a-z]{0,3}$")

# Put around emphasis while it is rendered: what stands beside it decides what becomes of them.
_OPENS, _CLOSES = "\x03", "\x04"


class _Mrkdwn(SlackifyMarkdown):  # type: ignore[misc]  # it has no types
    """slackify_markdown, but that Slack sees emphasis inside words, code is left as it is, and each
    line of a quote is one."""

    def __init__(self, markdown: str) -> None:
        super().__init__(markdown)
        self._quotes = 0

    def strong_open(self, *token: Any) -> str:
        return _opening(super().strong_open(*token))

    def strong_close(self, *token: Any) -> str:
        return _closing(super().strong_close(*token))

    def em_open(self, *token: Any) -> str:
        return _opening(super().em_open(*token))

    def em_close(self, *token: Any) -> str:
        return _closing(super().em_close(*token))

    def s_open(self, *token: Any) -> str:
        return _opening(super().s_open(*token))

    def s_close(self, *token: Any) -> str:
        return _closing(super().s_close(*token))

    def blockquote_open(self, *token: Any) -> str:
        self._quotes += 1
        return str(super().blockquote_open(*token))

    def blockquote_close(self, *token: Any) -> str:
        self._quotes -= 1
        return str(super().blockquote_close(*token))

    def paragraph_open(self, tokens: Sequence[Token], idx: int, *_more: Any) -> str:
        is_first = idx > 0 and tokens[idx - 1].type in ("blockquote_open", "list_item_open")
        return "> " if self._quotes and not is_first else ""

    def list_item_open(self, tokens: Sequence[Token], idx: int, *more: Any) -> str:
        item = super().list_item_open(tokens, idx, *more)
        is_first = idx > 1 and tokens[idx - 2].type == "blockquote_open"
        return f"> {item}" if self._quotes and not is_first else str(item)

    def softbreak(self, *_token: Any) -> str:
        return "\n> " if self._quotes else "\n"

    hardbreak = softbreak

    def code_inline(self, tokens: Sequence[Token], idx: int, *_more: Any) -> str:
        return f"`{_escaped(tokens[idx].content)}`"

    def code_block(self, tokens: Sequence[Token], idx: int, *_more: Any) -> str:
        return f"```\n{_escaped(tokens[idx].content)}```\n"

    def fence(self, tokens: Sequence[Token], idx: int, *_more: Any) -> str:
        return f"```\n{_escaped(tokens[idx].content)}```\n"


def sections(markdown: str) -> list[str]:
    """Return a Markdown text as the texts of mrkdwn sections, mentions neutralised."""
    clean = markdown.replace(_OPENS, "").replace(_CLOSES, "")
    text = _Mrkdwn(_tables_as_code(clean)).slackify()
    # Slack knows emphasis only at the ends of words: one of no width ends there.
    text = re.sub(rf"(?<=[^\W_]){_OPENS}|{_CLOSES}(?=[^\W_])", BREAK, text)
    text = text.replace(_OPENS, "").replace(_CLOSES, "")
    return [piece for piece in _pieces(neutralise(text)) if piece.strip()]


def _opening(mark: str) -> str:
    return f"{_OPENS}{mark}" if mark else ""


def _closing(mark: str) -> str:
    return f"{mark}{_CLOSES}" if mark else ""


def _escaped(code: str) -> str:
    """Slack reads entities in code as elsewhere."""
    return code.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _tables_as_code(markdown: str) -> str:
    """Return a text whose tables are code, in which columns stay in line, with their links below:
    there are none in code."""
    lines: list[str] = []
    rows: list[str] = []
    is_code = False
    for line in [*markdown.split("\n"), None]:
        if line is not None and not is_code and _ROW.match(line):
            rows.append(line)
            continue
        if rows:
            lines += _table(rows)
            rows = []
        if line is not None:
            is_code ^= line.lstrip().startswith(("```", "~~~"))
            lines.append(line)
    return "\n".join(lines)


def _table(rows: Sequence[str]) -> list[str]:
    cells = [[] if _DELIMITER.match(row) else _words_of_cells(row) for row in rows]
    columns = max((len(row) for row in cells), default=0)
    widths = [
        max((len(row[n]) for row in cells if n < len(row)), default=0) for n in range(columns)
    ]
    shown = []
    for row in cells:
        if row:
            padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            shown.append(f"| {' | '.join(padded)} |")
        else:
            shown.append(f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    links = dict.fromkeys(link for row in rows for link in _LINK.findall(row))
    below = ["", *(f"- {link}" for link in links), ""] if links else []
    return ["```", *shown, "```", *below]


def _words_of_cells(row: str) -> list[str]:
    inner = row.strip().removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [
        plain_words(cell.replace("\\|", "|")).replace("```", "'''") for cell in _CELLS.split(inner)
    ]


def _pieces(text: str) -> list[str]:
    """Cut at ends of lines, closing a code block and opening it again."""
    pieces: list[str] = []
    piece, is_code = "", False
    for line in text.splitlines(keepends=True):
        for chunk in _chunks(line):
            if len(piece) + len(chunk) > SECTION - 8:
                pieces.append(piece + ("\n```" if is_code else ""))
                piece = "```\n" if is_code else ""
            piece += chunk
        if line.strip().startswith("```"):
            is_code = not is_code
    return [*pieces, piece]


def _chunks(line: str) -> list[str]:
    """Cut a line that is too long, but not within an entity."""
    chunks = []
    while len(line) > SECTION - 10:
        end = SECTION - 10
        entity = _ENTITY_START.search(line, end - 5, end)
        end = entity.start() if entity else end
        chunks.append(line[:end])
        line = line[end:]
    return [*chunks, line]
