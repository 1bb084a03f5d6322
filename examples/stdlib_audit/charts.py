"""Two kinds of chart as inline SVG, drawn without a library: rows of bars, and histograms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

#: letters of a label that fit beside the bars
_LABEL_MAX = 42


class Bar(NamedTuple):
    """One row of a bar chart."""

    label: str
    value: float
    text: str  #: what is written behind the bar
    hint: str = ""  #: shown when pointed at


def bars(rows: Sequence[Bar], full: float | None = None) -> str:
    """Horizontal bars; `full` is the value of a whole width, else the largest one is."""
    left, room, step = 330, 500, 26
    most = full or max((row.value for row in rows), default=1) or 1
    parts = []
    for index, row in enumerate(rows):
        y = index * step
        length = max(1.0, room * row.value / most)
        hint = f"{row.label}: {row.text}" + (f" – {row.hint}" if row.hint else "")
        parts.append(
            _group(
                hint,
                _text(left - 10, y + 18, _short(row.label), "mono", anchor="end"),
                _rect("track", left, y + 6, room, 14) if full else "",
                _rect("bar", left, y + 6, length, 14),
                _text(left + (room if full else length) + 8, y + 18, row.text, "soft"),
            )
        )
    return _svg(left + room + 70, len(rows) * step, parts)


def columns(rows: Sequence[dict[str, Any]]) -> str:
    """A histogram: upright bars with their `count` above and their `bin` below."""
    width, height, foot, head = 440, 210, 26, 22
    most = max((row["count"] for row in rows), default=1) or 1
    step = width / max(1, len(rows))
    parts = []
    for index, row in enumerate(rows):
        tall = (height - foot - head) * row["count"] / most
        top, middle = height - foot - tall, (index + 0.5) * step
        count = f"{row['count']:,}"
        parts.append(
            _group(
                f"{row['bin']}: {count}",
                _rect("bar", index * step + 4, top, step - 8, tall),
                _text(middle, top - 6, count, "soft small", anchor="middle"),
                _text(middle, height - 8, row["bin"], "small", anchor="middle"),
            )
        )
    return _svg(width, height, parts)


def _svg(width: int, height: int, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _group(hint: str, *parts: str) -> str:
    return f"<g><title>{escape(hint)}</title>{''.join(parts)}</g>"


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {size} rx="3"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _short(label: str) -> str:
    """A module's name, cut in the middle where a chart has no room for it."""
    if len(label) <= _LABEL_MAX:
        return label
    head = _LABEL_MAX // 3
    return f"{label[:head]}…{label[head + 1 - _LABEL_MAX :]}"
