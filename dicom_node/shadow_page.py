"""Write the comparison of two models as one page (HTML) with a Bland-Altman plot."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Final

from dicom_node.axes import readable_range
from dicom_node.shadow_report import Agreement, Comparison, Pair, Reading, other_slices

_WIDTH: Final = 760
_HEIGHT: Final = 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 16, 48
_STEPS: Final = 4
_NONE: Final = "&ndash;"

_STYLE: Final = """
:root { --paper: #fff; --ink: #17222b; --soft: #51616d; --line: #d5dde2; --dot: #0f5c66;
  --bad: #a3231c; --warn-tint: #fdf0d6; --warn: #7a4b00; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper: #10171c; --ink: #e6edf1; --soft: #a3b3be;
  --line: #2d3b46; --dot: #6cc3cd; --bad: #ff9d94; --warn-tint: #3a2c0f; --warn: #f2c26b; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--paper); color: var(--ink); }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; } tr.changed td { color: var(--bad); font-weight: 600; }
.uid { font: .8em ui-monospace, monospace; overflow-wrap: anywhere; font-weight: 400; }
.warning { background: var(--warn-tint); color: var(--warn); padding: .4rem .8rem;
  border-radius: 6px; display: inline-block; }
.soft { color: var(--soft); } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; } svg .grid { stroke: var(--line); }
svg .bias { stroke: var(--ink); } svg .limit { stroke: var(--bad); stroke-dasharray: 6 4; }
svg circle { fill: var(--dot); fill-opacity: .75; } svg circle.changed { fill: var(--bad); }
"""


def page(comparison: Comparison, at: datetime) -> str:
    """Return the page.

    Parameters
    ----------
    comparison : Comparison
    at : datetime
        When it was made, in UTC.
    """
    active = sorted({pair.active.model for pair in comparison.pairs if pair.active.model})
    title = f"{comparison.model} beside {', '.join(active) or 'nothing so far'}"
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">Measured silently by Psoas, {at:%Y-%m-%d %H:%M} UTC. Nothing of it '
            "was delivered.</p>",
            '<p class="warning">Research use only, not for diagnosis.</p>',
            _summary(comparison),
            "<h2>Difference of the areas (Bland-Altman)</h2>",
            _plot(comparison.measured, comparison.agreement),
            _verdicts(comparison),
            _table(comparison.pairs),
            "</body></html>",
        ]
    )


def sentences(comparison: Comparison) -> list[str]:
    """Say what the comparison shows."""
    said = [f"{len(comparison.pairs)} series measured by both or refused by one"]
    agreement = comparison.agreement
    if agreement is not None:
        low, high = agreement.limits_cm2
        said.append(
            f"mean difference {agreement.bias_cm2:+.2f} cm² (standard error "
            f"{agreement.bias_error_cm2:.2f}), limits of agreement {low:+.2f} to {high:+.2f} cm², "
            f"from {agreement.count} series"
        )
        said.append(f"measured on another slice: {other_slices(comparison.pairs)}")
    said.append(f"verdicts changed: {len(comparison.changed)}")
    if comparison.waiting:
        said.append(f"not ended yet: {comparison.waiting}")
    if comparison.unpaired:
        said.append(f"without a report to compare with: {comparison.unpaired}")
    return said


def _summary(comparison: Comparison) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(comparison))
    return f"<ul>{items}</ul>"


def _verdicts(comparison: Comparison) -> str:
    counted: dict[tuple[str, str], int] = {}
    for pair in comparison.pairs:
        key = pair.active.verdict, pair.shadow.verdict
        counted[key] = counted.get(key, 0) + 1
    rows = "".join(
        f'<tr class="{"changed" if before != after else ""}"><td>{_words(before)}</td>'
        f'<td>{_words(after)}</td><td class="n">{count}</td></tr>'
        for (before, after), count in sorted(counted.items())
    )
    return (
        "<h2>Verdicts</h2><table><thead><tr><th>In use</th><th>Shadow</th>"
        f'<th class="n">Series</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _table(pairs: Sequence[Pair]) -> str:
    rows = "".join(_row(pair) for pair in sorted(pairs, key=_by_size, reverse=True))
    return (
        "<h2>Series, the largest difference first</h2><table><thead><tr><th>Series</th>"
        '<th class="n">In use, cm²</th><th class="n">Shadow, cm²</th><th class="n">Difference</th>'
        f"<th>Verdict in use</th><th>Shadow</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(pair: Pair) -> str:
    difference = pair.difference_cm2
    change = _NONE if difference is None else f"{difference:+.1f}"
    return (
        f'<tr class="{"changed" if pair.is_changed else ""}">'
        f'<td class="uid">{escape(pair.series_instance_uid)}</td>'
        f'<td class="n">{_area(pair.active)}</td><td class="n">{_area(pair.shadow)}</td>'
        f'<td class="n">{change}</td><td>{_words(pair.active.verdict)}</td>'
        f"<td>{_words(pair.shadow.verdict)}</td></tr>"
    )


def _by_size(pair: Pair) -> tuple[bool, float]:
    difference = pair.difference_cm2
    return pair.is_changed, 0.0 if difference is None else abs(difference)


def _area(reading: Reading) -> str:
    return _NONE if reading.area_cm2 is None else f"{reading.area_cm2:.1f}"


def _words(verdict: str) -> str:
    return escape(verdict.replace("_", " "))


def _plot(pairs: Sequence[Pair], agreement: Agreement | None) -> str:
    if agreement is None:
        return "<p>No series was measured by both.</p>"
    points = [
        ((shadow + active) / 2, shadow - active, pair.is_changed)
        for pair in pairs
        if (active := pair.active.area_cm2) is not None
        and (shadow := pair.shadow.area_cm2) is not None
    ]
    low, high = agreement.limits_cm2
    across = _Axis([x for x, _, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([*(y for _, y, _ in points), low, high, 0.0], _HEIGHT - _BOTTOM, _TOP)
    lines = [
        _level(up, high, "limit", f"{high:+.2f} cm²"),
        _level(up, agreement.bias_cm2, "bias", f"mean {agreement.bias_cm2:+.2f} cm²"),
        _level(up, low, "limit", f"{low:+.2f} cm²"),
    ]
    dots = [
        f'<circle class="{"changed" if changed else ""}" cx="{across.at(x):.1f}" '
        f'cy="{up.at(y):.1f}" r="4"/>'
        for x, y, changed in points
    ]
    label = "Difference of the areas over their mean, with limits of agreement"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{_grid(across, up)}{''.join(lines)}{''.join(dots)}"
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "Mean of both areas, cm² (red: verdict changed)</text>"
        f'<text transform="rotate(-90)" x="{-_HEIGHT / 2}" y="14" text-anchor="middle">'
        "Shadow minus in use, cm²</text></svg>"
    )


class _Axis:
    """From values to places on the page."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        margin = (max(values) - min(values)) * 0.1 or 1.0
        low, high = min(values) - margin, max(values) + margin
        self.low, self.high = readable_range(low, high, _STEPS)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * step / _STEPS for step in range(_STEPS + 1)]


def _grid(across: _Axis, up: _Axis) -> str:
    right = _WIDTH - _RIGHT
    rows = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{up.at(y):.1f}" y2="{up.at(y):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{up.at(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        for y in up.ticks()
    )
    columns = "".join(
        f'<text x="{across.at(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
        f"{x:g}</text>"
        for x in across.ticks()
    )
    return rows + columns


def _level(up: _Axis, value: float, kind: str, text: str) -> str:
    y, right = up.at(value), _WIDTH - _RIGHT
    return (
        f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{right + 8}" y="{y + 4:.1f}">{text}</text>'
    )
