"""Markdown as Slack's own mrkdwn, for where Slack refuses Markdown."""

from __future__ import annotations

import re

from slackify_markdown import slackify_markdown

from colloquy_slack.mentions import neutralise

SECTION = 2_900
"""Characters of a section; Slack takes 3,000."""

_ROW = re.compile(r"^ {0,3}\|")


def sections(markdown: str) -> list[str]:
    """Return a Markdown text as the texts of mrkdwn sections, mentions neutralised."""
    # slackify_markdown leaves tables as they are; as code their columns stay in line.
    text = neutralise(slackify_markdown(_tables_as_code(markdown)))
    return [piece for piece in _pieces(text) if piece.strip()]


def _tables_as_code(markdown: str) -> str:
    lines: list[str] = []
    is_code = is_table = False
    for line in markdown.split("\n"):
        is_fence = line.lstrip().startswith(("```", "~~~"))
        is_row = not is_code and bool(_ROW.match(line))
        if is_row != is_table:
            lines.append("```")
            is_table = is_row
        is_code ^= is_fence
        lines.append(line)
    return "\n".join([*lines, "```"] if is_table else lines)


def _pieces(text: str) -> list[str]:
    """Cut at ends of lines, closing a code block and opening it again."""
    pieces: list[str] = []
    piece, is_code = "", False
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), SECTION - 10):
            chunk = line[start : start + SECTION - 10]
            if len(piece) + len(chunk) > SECTION - 8:
                pieces.append(piece + ("\n```" if is_code else ""))
                piece = "```\n" if is_code else ""
            piece += chunk
        if line.strip().startswith("```"):
            is_code = not is_code
    return [*pieces, piece]
