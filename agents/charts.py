"""Charts as inline SVG that follow the page's colours, light or dark, and stay readable on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
ROW = 34


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: in the legend. points: (x, y), or (x, y, low, high) with an interval. tone: 1 to 4, a colour of the page.
        dots: marks instead of a line.
    """

    name: str
    points: Sequence[tuple[float, ...]]
    tone: int
    dots: bool = False


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: a value, perhaps an interval around it, and how it is written."""

    name: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    tone: int = 1


def line_chart(lines: Sequence[Line], x_label: str, title: str, reference: float | None = None) -> str:
    """Curves over a common axis; ``reference`` draws a dashed level that means "right"."""
    xs = [point[0] for line in lines for point in line.points]
    ys = [value for line in lines for point in line.points for value in point[1:]]
    ys += [0.0] if reference is None else [0.0, reference]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    span = max(xs) - min(xs) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - min(xs)) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(y(tick), _short(tick)) for tick in y_ticks]
    parts += [
        _text(x(tick), HEIGHT - BOTTOM + 16, _short(tick), "middle") for tick in x_ticks if min(xs) <= tick <= max(xs)
    ]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    if reference is not None:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(reference):.1f}" y2="{y(reference):.1f}" class="ref"/>'
        )
    for line in reversed(lines):  # the first is drawn last, over the others
        parts += _curve(line, x, y)
    legend = "".join(f'<li><i class="b{line.tone}"></i>{escape(line.name)}</li>' for line in lines)
    picture = _svg(parts, HEIGHT, title)
    return f'{picture}<ul class="legend">{legend}</ul>' if len(lines) > 1 else picture


def bar_chart(bars: Sequence[Bar], title: str) -> str:
    """Horizontal bars from zero, each under its name, with intervals where they are known."""
    ends = [v for bar in bars for v in (bar.value, bar.low, bar.high) if v is not None] + [0.0]
    low, high = min(ends), max(ends)
    span = high - low or 1.0

    def x(value: float) -> float:
        return 4 + (value - low) / span * (WIDTH - 8)

    parts = []
    for i, bar in enumerate(bars):
        top = 4 + i * ROW
        left, right = sorted((x(0.0), x(bar.value)))
        parts.append(_text(4, top + 10, bar.name, "start"))
        parts.append(_text(WIDTH - 4, top + 10, bar.text, "end"))
        parts.append(
            f'<rect x="{left:.1f}" y="{top + 15}" width="{max(1.0, right - left):.1f}" height="9" class="f{bar.tone}"/>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(
                f'<line x1="{x(bar.low):.1f}" x2="{x(bar.high):.1f}" y1="{top + 19.5}" y2="{top + 19.5}" class="err"/>'
            )
    return _svg(parts, len(bars) * ROW + 8, title)


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers from at or below ``low`` to at or above ``high``."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _curve(line: Line, x: object, y: object) -> list[str]:
    assert callable(x) and callable(y)
    parts = []
    banded = [point for point in line.points if len(point) == 4]
    if banded:
        edge = [f"{x(p[0]):.1f},{y(p[2]):.1f}" for p in banded] + [f"{x(p[0]):.1f},{y(p[3]):.1f}" for p in banded[::-1]]
        parts.append(f'<polygon points="{" ".join(edge)}" class="band f{line.tone}"/>')
    if line.dots or len(line.points) == 1:
        return parts + [
            f'<circle cx="{x(p[0]):.1f}" cy="{y(p[1]):.1f}" r="4" class="f{line.tone}"/>' for p in line.points
        ]
    path = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in line.points)
    return [*parts, f'<polyline points="{path}" class="s{line.tone}"/>']


def _grid(height: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" class="grid"/>'
    return line + _text(LEFT - 6, height + 4, label, "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _short(value: float) -> str:
    """A tick's label: 12k for 12000, and no more digits than it has."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"
