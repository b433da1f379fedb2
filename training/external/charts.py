"""Plots as SVG text, so that a report is one file and prints sharp."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

_WIDTH: Final = 460
_HEIGHT: Final = 320
_LEFT: Final = 62
_RIGHT: Final = 16
_TOP: Final = 14
_BOTTOM: Final = 46
# Distinguishable with most kinds of colour blindness (Okabe and Ito 2008).
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True, slots=True)
class Point:
    """A case in a plot; ``note`` shows when the pointer rests on it."""

    x: float
    y: float
    group: str
    note: str


@dataclass(frozen=True, slots=True)
class Line:
    """A horizontal line with a word at its end, and the band of its interval."""

    y: float
    label: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """What a plot shows.

    Parameters
    ----------
    title, x_label, y_label : str
    points : sequence of Point
    lines : sequence of Line
    diagonal : bool
        Draw the line on which both axes say the same.
    """

    title: str
    x_label: str
    y_label: str
    points: Sequence[Point]
    lines: Sequence[Line] = ()
    diagonal: bool = False


def svg(chart: Chart) -> str:
    """Draw a chart; without points it says so."""
    if not chart.points:
        return f'<p class="empty">{escape(chart.title)}: nothing to show.</p>'
    xs = [point.x for point in chart.points]
    ys = [point.y for point in chart.points] + [line.y for line in chart.lines]
    ys += [one for line in chart.lines for one in (line.low, line.high) if one is not None]
    if chart.diagonal:
        xs = ys = [*xs, *ys]
    frame = _Frame(_extent(xs), _extent(ys))
    groups = sorted({point.group for point in chart.points})
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        *frame.axes(chart.x_label, chart.y_label),
        *([frame.diagonal()] if chart.diagonal else []),
        *(part for line in chart.lines for part in frame.line(line)),
        *(frame.point(point, COLOURS[groups.index(point.group) % 7]) for point in chart.points),
        "</svg>",
    ]
    legend = "".join(
        f'<span class="key" style="--c:{COLOURS[i % 7]}">{escape(group)}</span>'
        for i, group in enumerate(groups)
    )
    caption = f"<figcaption>{escape(chart.title)} {legend}</figcaption>"
    return f"<figure>{''.join(parts)}{caption}</figure>"


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps values to places in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at_x(self, value: float) -> float:
        low, high = self.x
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def at_y(self, value: float) -> float:
        low, high = self.y
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self, x_label: str, y_label: str) -> list[str]:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
        for value in _ticks(*self.x):
            at = self.at_x(value)
            parts.append(f'<path class="axis" d="M{at:.1f} {bottom}v5"/>')
            parts.append(f'<text x="{at:.1f}" y="{bottom + 17}" class="mid">{value:g}</text>')
        for value in _ticks(*self.y):
            at = self.at_y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{right}"/>')
            parts.append(f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" class="end">{value:g}</text>')
        middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
        parts.append(
            f'<text x="{middle_x:.0f}" y="{_HEIGHT - 8}" class="mid">{escape(x_label)}</text>'
        )
        turned = f'transform="translate(14 {middle_y:.0f}) rotate(-90)"'
        parts.append(f'<text {turned} class="mid">{escape(y_label)}</text>')
        return parts

    def diagonal(self) -> str:
        low, high = self.x
        start, end = (self.at_x(low), self.at_y(low)), (self.at_x(high), self.at_y(high))
        return f'<path class="rule" d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"/>'

    def line(self, line: Line) -> list[str]:
        at, right = self.at_y(line.y), _WIDTH - _RIGHT
        parts = []
        if line.low is not None and line.high is not None:
            top, bottom = self.at_y(line.high), self.at_y(line.low)
            parts.append(
                f'<rect class="band" x="{_LEFT}" y="{top:.1f}" width="{right - _LEFT}" '
                f'height="{max(bottom - top, 0.5):.1f}"/>'
            )
        parts.append(f'<path class="rule" d="M{_LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{right}" y="{at - 4:.1f}" class="end">{escape(line.label)}</text>')
        return parts

    def point(self, point: Point, colour: str) -> str:
        return (
            f'<circle cx="{self.at_x(point.x):.1f}" cy="{self.at_y(point.y):.1f}" r="4" '
            f'fill="{colour}"><title>{escape(point.note)}</title></circle>'
        )


def _extent(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or max(abs(high) * 0.1, 1.0)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within an interval, some five of them."""
    rough = (high - low) / 5
    scale = 10 ** np.floor(np.log10(rough))
    step = next(f * scale for f in (1, 2, 2.5, 5, 10) if f * scale >= rough)
    first = np.ceil(low / step) * step
    return [round(float(v), 10) + 0.0 for v in np.arange(first, high + step * 1e-6, step)]
