"""A bar for each server, as SVG: no dependency, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 760, 240, 110
BAR, GAP, TOP = 18, 8, 40
LONGEST = 4.0  # × the median: a longer bar is cut, and says so
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.bar{fill:#8b949e}.own{fill:#0f7b6c}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.own{fill:#3fb8a5}}"
)


class Bar(NamedTuple):
    """A server and its figure; ``own`` is what this project makes."""

    title: str
    value: float
    own: bool


def bars(title: str, given: Sequence[Bar], *, digits: int) -> str:
    """The picture. Bars keep their order; all values are 0 or more, and there is at least one."""
    height = TOP + len(given) * (BAR + GAP) + GAP
    scale = (WIDTH - LEFT - RIGHT) / (_longest([bar.value for bar in given]) or 1)
    rows = [_row(bar, TOP + at * (BAR + GAP), scale, digits) for at, bar in enumerate(given)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            f' role="img"><title>{escape(title)}</title><style>{STYLE}</style>',
            f'<text class="title" x="8" y="22">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _longest(values: Sequence[float]) -> float:
    return min(max(values), LONGEST * median(values) or max(values))


def _row(bar: Bar, y: int, scale: float, digits: int) -> str:
    room = WIDTH - LEFT - RIGHT
    cut = bar.value * scale > room + 0.5
    length = room if cut else bar.value * scale
    figure = f"{bar.value:,.{digits}f}"
    return (
        f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(bar.title)}</text>'
        f'<rect class="{"own" if bar.own else "bar"}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text x="{LEFT + length + 6:.1f}" y="{y + 14}">{"→ " if cut else ""}{figure}</text>'
    )
