"""Markdown from models, rendered so that nothing of it is lost and nothing of it is obeyed."""

from __future__ import annotations

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

from colloquy.terminal.formatting import clean

# What looks like HTML is shown as it is: models write <placeholders>, which would vanish.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


def render(text: str) -> RenderableType:
    """Return Markdown as something to print.

    Line breaks stay, poems have them; links show their address, so that none can lie about it.
    """
    markdown = Markdown("", hyperlinks=False)
    markdown.markup = clean(text)
    markdown.parsed = _PARSER.parse(markdown.markup)
    for token in markdown.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return _Tidy(markdown)


def finished_length(text: str) -> int:
    """Return how many characters of a growing text are whole blocks that no more text changes.

    The last block may always go on. A line that is not ended yet counts for nothing: `2` may
    become the `2.` of a list that seemed to be over.
    """
    ended = text.rfind("\n") + 1
    starts = [
        token.map[0]
        for token in _PARSER.parse(text[:ended])
        if token.level == 0 and token.nesting >= 0 and token.map
    ]
    if len(starts) < 2:
        return 0
    lines = text[:ended].split("\n")
    return sum(len(line) + 1 for line in lines[: starts[-1]])


class _Tidy:
    """Prints something without control characters, wherever in it they came from.

    Rich puts empty lines around some blocks and none around others; here none are.
    """

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [
            [Segment(clean(segment.text), segment.style) for segment in line]
            for line in console.render_lines(self._inner, options, pad=False)
        ]
        filled = [number for number, line in enumerate(lines) if not _is_empty(line)]
        for line in lines[filled[0] : filled[-1] + 1] if filled else ():
            yield from line
            yield Segment.line()


def _is_empty(line: list[Segment]) -> bool:
    """Whether a line shows nothing, not even a background."""
    return all(
        not segment.text.strip() and not (segment.style and segment.style.bgcolor)
        for segment in line
    )


class Tail:
    """As much of the end of a growing text as the screen holds."""

    def __init__(self, text: str, *, after_other: bool) -> None:
        """`after_other` sets it off from what is printed above."""
        self._inner = render(text)
        self._after_other = after_other

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._inner, options, pad=False)
        if self._after_other:
            lines.insert(0, [])
        # One line stays free: a screen that is full to the last line scrolls when it is redrawn.
        for line in lines[-max(1, console.height - 1) :]:
            yield from line
            yield Segment.line()
