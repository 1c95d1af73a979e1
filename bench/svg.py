"""A picture of bars for a page that is light or dark, as whoever looks at it likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Bar:
    """A bar of `value` times the floor; a mark stands at `limit`."""

    label: str
    value: float
    limit: float

    @property
    def is_over(self) -> bool:
        """Whether it is longer than it may be."""
        return self.value > self.limit


@dataclass(frozen=True)
class Group:
    """Bars under a heading."""

    heading: str
    bars: Sequence[Bar]


_WIDTH = 800
_LEFT = 330  # where bars begin
_RIGHT = 70  # room for the number behind the longest bar
_LINE = 26
_BAR = 14
_TOP = 58
_HEADING = 34

_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.heading { font-weight: 600 }
.quiet { fill: #59636e }
.number { font-variant-numeric: tabular-nums }
.bar { fill: #2f6feb }
.over { fill: #cf222e }
.axis { stroke: #d1d9e0 }
.floor { stroke: #59636e; stroke-dasharray: 3 3 }
.limit { stroke: #9a6700; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.quiet { fill: #9198a1 }
.bar { fill: #58a6ff }
.over { fill: #ff7b72 }
.axis { stroke: #3d444d }
.floor { stroke: #9198a1 }
.limit { stroke: #d29922 }
}
"""


def picture(title: str, note: str, groups: Sequence[Group]) -> str:
    """The picture; its background is that of the page."""
    bars = [bar for group in groups for bar in group.bars]
    longest = max([2.0, *(max(bar.value, bar.limit) for bar in bars)])
    unit = (_WIDTH - _LEFT - _RIGHT) / longest
    height = _TOP + len(groups) * _HEADING + len(bars) * _LINE + 12
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        _text(0, 20, title, "title"),
        _text(0, 42, note, "quiet"),
    ]
    y = _TOP
    for group in groups:
        lines.append(_text(0, y + 20, group.heading, "heading"))
        y += _HEADING
        bottom = y + len(group.bars) * _LINE - 6
        lines.append(_line(_LEFT, y - 6, bottom, "axis"))
        lines.append(_line(_LEFT + unit, y - 6, bottom, "floor"))
        for bar in group.bars:
            kind = "over" if bar.is_over else "bar"
            place = f'x="{_LEFT}" y="{y}" width="{bar.value * unit:.1f}" height="{_BAR}"'
            end = _LEFT + max(bar.value, bar.limit) * unit
            lines += [
                _text(0, y + 11, bar.label),
                f'<rect class="{kind}" {place} rx="2"/>',
                _line(_LEFT + bar.limit * unit, y - 3, y + _BAR + 3, "limit"),
                _text(end + 8, y + 11, f"{bar.value:.2f} x", "number"),
            ]
            y += _LINE
    return "\n".join([*lines, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y}">{escape(text)}</text>'


def _line(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
