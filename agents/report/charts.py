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
        name: in the legend. points: (x, y), or (x, y, low, high) with an interval. tone: 1 to 6, a colour of the page.
        dots: marks instead of a line.
    """

    name: str
    points: Sequence[tuple[float, ...]]
    tone: int
    dots: bool = False


@dataclass(frozen=True)
class Cloud:
    """One group of a scatter chart.

    Attributes:
        name: in the legend. points: (x, y), or (x, y, y low, y high). labels: what a point says when it is pointed at.
        tone: 1 to 6, a colour of the page.
    """

    name: str
    points: Sequence[tuple[float, ...]]
    labels: Sequence[str]
    tone: int


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: a value, perhaps an interval around it, and how it is written."""

    name: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    tone: int = 1


def line_chart(
    lines: Sequence[Line], x_label: str, title: str, reference: float | None = None, doubling: bool = False
) -> str:
    """Curves over a common axis.

    Args:
        reference: draws a dashed level that means "right". doubling: x is positive and each doubling is as wide as the
            last; its ticks are the points' own.
    """
    xs = [point[0] for line in lines for point in line.points]
    ys = [value for line in lines for point in line.points for value in point[1:]]
    ys += [0.0] if reference is None else [0.0, reference]
    x_ticks, y_ticks = sorted(set(xs)) if doubling else ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    scaled = math.log2 if doubling else float
    first = scaled(min(xs))
    span = scaled(max(xs)) - first or 1.0

    def x(value: float) -> float:
        return LEFT + (scaled(value) - first) / span * (WIDTH - LEFT - RIGHT)

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
    return _svg(parts, HEIGHT, title) + _legend(lines)


def scatter_chart(clouds: Sequence[Cloud], x_label: str, y_label: str, title: str) -> str:
    """Points on equal axes, a square with its diagonal: on it, x and y agree."""
    values = [value for cloud in clouds for point in cloud.points for value in point]
    marks = ticks(min(values), max(values))
    low, high, side = marks[0], marks[-1], WIDTH - LEFT - RIGHT

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * side

    def y(value: float) -> float:
        return TOP + side - (value - low) / (high - low) * side

    parts = [_text(LEFT, TOP + 10, y_label, "start")]
    parts += [_grid(y(mark), _short(mark)) for mark in marks]
    parts += [_text(x(mark), TOP + side + 16, _short(mark), "middle") for mark in marks]
    parts.append(_text(LEFT + side / 2, TOP + side + 34, x_label, "middle"))
    parts.append(f'<line x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}" class="ref"/>')
    for cloud in clouds:
        for point, label in zip(cloud.points, cloud.labels, strict=True):
            across, place = f"{x(point[0]):.1f}", f'cx="{x(point[0]):.1f}" cy="{y(point[1]):.1f}"'
            if len(point) == 4:
                ends = f'y1="{y(point[2]):.1f}" y2="{y(point[3]):.1f}"'
                parts.append(f'<line x1="{across}" x2="{across}" {ends} class="s{cloud.tone} thin"/>')
            parts.append(f'<circle {place} r="4" class="f{cloud.tone} see"><title>{escape(label)}</title></circle>')
    return _svg(parts, TOP + side + BOTTOM, title) + _legend(clouds)


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
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, 1e-100):  # no numbers lie between that a page could tell apart
        high = low + max(1.0, 1e-3 * size)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


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


def _legend(groups: Sequence[Line] | Sequence[Cloud]) -> str:
    """Names of curves or points; one alone needs none."""
    names = "".join(f'<li><i class="b{group.tone}"></i>{escape(group.name)}</li>' for group in groups)
    return f'<ul class="legend">{names}</ul>' if len(groups) > 1 else ""


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
