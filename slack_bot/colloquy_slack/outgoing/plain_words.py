"""Markdown as plain words, for notifications and cells of tables."""

from __future__ import annotations

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_ENDS_OF_WORDS = {"softbreak", "hardbreak"}


def plain_words(markdown: str) -> str:
    """Return the words of a Markdown text on one line, without what marks them up."""
    words = []
    for block in _MARKDOWN.parse(markdown):
        if block.type in ("fence", "code_block"):
            words.append(block.content)
        for token in block.children or []:
            if token.type in ("text", "code_inline", "image"):
                words.append(token.content)
            elif token.type in _ENDS_OF_WORDS:
                words.append(" ")
        words.append(" ")
    return " ".join("".join(words).split())
