"""Draw charts as SVG, on the server: no script, no style that a page's policy forbids."""

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from dicom_node.axes import readable_range

_WIDTH: Final = 720
_HEIGHT: Final = 260
_LEFT: Final = 72
_RIGHT: Final = 130
_TOP: Final = 14
_BOTTOM: Final = 30
_COLOURS: Final = 6
_STEPS: Final = 4
_LABELS_AT_MOST: Final = 12


def line_chart(
    lines: Mapping[str, Mapping[str, float]],
    months: Sequence[str],
    title: str,
    unit: str,
    *,
    from_zero: bool = True,
) -> Markup:
    """Draw one line for each name over months.

    Parameters
    ----------
    lines : mapping of str to mapping of str to float
        Value by month, by name; a month without value leaves a gap.
    months : sequence of str
    title : str
        For people who do not see it.
    unit : str
    from_zero : bool
        Whether the axis begins at zero.
    """
    values = [value for line in lines.values() for value in line.values()]
    low, high = readable_range(*_range(values, from_zero=from_zero), _STEPS)
    parts = [_grid(low, high, unit), _months(months)]
    for number, (name, line) in enumerate(lines.items()):
        points = [
            (_x(place, len(months)), _y(line[month], low, high))
            for place, month in enumerate(months)
            if month in line
        ]
        parts.append(_line(points, f"c{number % _COLOURS}", name, number))
    template = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return template.format(_WIDTH, _HEIGHT, title, Markup("").join(parts))


def _range(values: Sequence[float], *, from_zero: bool) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = (high - low) * 0.15 or abs(high) * 0.1 or 1.0
    return (0.0 if from_zero else low - margin), high + margin


def _x(place: int, count: int) -> float:
    return _LEFT + (place + 0.5) * (_WIDTH - _LEFT - _RIGHT) / max(count, 1)


def _y(value: float, low: float, high: float) -> float:
    return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(low: float, high: float, unit: str) -> Markup:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    label = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:.4g}{}</text>')
    parts = []
    for step in range(_STEPS + 1):
        value = low + (high - low) * step / _STEPS
        y = _y(value, low, high)
        parts.append(line.format(_LEFT, _WIDTH - _RIGHT, y, y))
        parts.append(label.format(_LEFT - 6, y + 4, value, unit if step == _STEPS else ""))
    return Markup("").join(parts)


def _months(months: Sequence[str]) -> Markup:
    every = -(-len(months) // _LABELS_AT_MOST) or 1
    label = Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    return Markup("").join(
        label.format(_x(place, len(months)), _HEIGHT - 10, month)
        for place, month in enumerate(months)
        if place % every == 0
    )


def _line(points: Sequence[tuple[float, float]], colour: str, name: str, number: int) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = Markup("").join(
        Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(colour, x, y)
        for x, y in points
    )
    y = _TOP + 10 + number * 18
    x = _WIDTH - _RIGHT + 14
    legend = Markup(
        '<circle class="{}" cx="{}" cy="{}" r="5"/><text x="{}" y="{}">{}</text>'
    ).format(colour, x, y - 4, x + 10, y, name)
    return Markup('<polyline class="line {}" points="{}"/>').format(colour, path) + dots + legend
