"""The report of an external validation: one self-contained page that can be printed and signed."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from training.external.cases import VERDICTS, Compared, Picture
from training.external.charts import Chart, Line, Point, svg
from training.external.statistics import (
    FEWEST_PATIENTS,
    AreaError,
    Criterion,
    Estimate,
    area_error,
    criteria,
    mean_dice,
    verdict_table,
)

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:62rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:2px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0;width:100%}caption{text-align:left;color:#555}
th,td{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.notice{border:2px solid #b00;padding:.5rem .8rem;font-weight:600}
.met{color:#067a3a;font-weight:600}.unmet{color:#b00020;font-weight:600}.open{color:#666}
.uid{font:12px ui-monospace,monospace;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1rem}
figure{margin:0;break-inside:avoid}figcaption{font-size:13px}svg{width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:#333}.mid{text-anchor:middle}.end{text-anchor:end}
.axis{stroke:#333;fill:none}.grid{stroke:#eee}.rule{stroke:#555;stroke-dasharray:5 3;fill:none}
.band{fill:#0072b2;opacity:.1}.key::before{content:"";display:inline-block;width:.7em;height:.7em;
border-radius:50%;background:var(--c);margin:0 .3em 0 .8em}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.8rem}
.pictures img{width:100%;image-rendering:auto;background:#000}
.sign{display:grid;grid-template-columns:1fr 1fr 1fr;gap:2.5rem 1.5rem;margin-top:2.5rem}
.sign div{border-top:1px solid #333;padding-top:.2rem;font-size:13px}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}
tr,.pictures figure{break-inside:avoid}}
"""
_PICTURES: Final = 8
_NOTHING: Final = "&ndash;"
_OUTSIDE_HU: Final = (-160.0, 240.0)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows.

    Parameters
    ----------
    rows : tuple of Compared
    excluded : tuple of (str, str)
        Cases that could not be compared, with the reason.
    facts : tuple of (str, str)
        What was validated, on what, when.
    pictures : tuple of Picture
    """

    rows: tuple[Compared, ...]
    excluded: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...] = ()


def page(report: Report) -> str:
    """Return the page as HTML."""
    rows = report.rows
    judged = criteria(rows)
    body = [
        "<h1>External validation: skeletal muscle area at L3</h1>",
        '<p class="notice">Research use only, not for diagnosis. CT muscle area alone does not '
        "diagnose sarcopenia.</p>",
        _facts(report),
        "<h2>Criteria</h2>",
        _criteria(judged),
        "<h2>Agreement with the reference</h2>",
        _agreement(rows),
        *_plots(rows),
        "<h2>Verdicts</h2>",
        _verdicts(rows),
        "<h2>By scanner</h2>",
        _groups(rows, "scanner", lambda row: row.scanner),
        "<h2>By sex</h2>",
        _groups(rows, "sex", lambda row: row.sex or "not known"),
        "<h2>Cases, largest error first</h2>",
        _cases(rows),
        *_pictures(report),
        *_excluded(report),
        "<h2>Method</h2>",
        _METHOD,
        '<div class="sign"><div>Name and function</div><div>Date and place</div>'
        "<div>Signature</div><div>Accepted for research use: yes / no</div>"
        "<div>Remarks</div><div></div></div>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>External validation</title><style>{_STYLE}</style></head><body>"
        f"{''.join(body)}</body></html>\n"
    )


_METHOD: Final = (
    "<p>The reference is the drawn muscle within -29 to 150 HU on the stored pixels. <b>Slice "
    "given</b>: the software segments the slice that was drawn; Dice and area are compared "
    "there. <b>Automatic</b>: the software finds L3 in the whole series and measures there, as in "
    "use; the area is compared with that of the drawn slice, so that a wrong level counts as an "
    "error. Where several slices were drawn and none is stated as L3, the drawn slice nearest to "
    "the found one is the reference, and the level is not judged. Intervals: 95 %, of 1,000 "
    "bootstrap samples of patients; of shares Clopper and Pearson's. Limits of agreement: mean ± "
    "1.96 SD (Bland and Altman). Verdicts compare areas with the cut-off of the sex; the node's "
    "is indeterminate when its interval holds the cut-off. Cases that the software refuses to "
    "measure are counted, never dropped. That no person here was among those that the models were "
    "trained on has to be ruled out by whoever signs.</p>"
)


def _facts(report: Report) -> str:
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="uid">{escape(value)}</td></tr>'
        for name, value in report.facts
    )
    return f"<table>{cells}</table>"


def _criteria(judged: Sequence[Criterion]) -> str:
    words = {True: ("met", "met"), False: ("unmet", "not met"), None: ("open", "not judged")}
    lines = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{escape(one.wanted)}</td>"
        f'<td>{escape(one.found)}</td><td class="{words[one.met][0]}">{words[one.met][1]}</td></tr>'
        for one in judged
    )
    head = "<tr><th>quantity</th><th>wanted</th><th>found</th><th>result</th></tr>"
    return (
        f"<table><caption>Set before measuring; automatic unless said otherwise. Fewer than "
        f"{FEWEST_PATIENTS} patients are not judged.</caption>"
        f"<thead>{head}</thead><tbody>{lines}</tbody></table>"
    )


def _agreement(rows: Sequence[Compared]) -> str:
    given, automatic = area_error(rows, automatic=False), area_error(rows, automatic=True)
    refused = sum(1 for row in rows if row.automatic_cm2 is None)
    dice = mean_dice(rows)
    lines = [
        ("cases (patients)", [_counted(given), _counted(automatic)]),
        ("refused by the software", ["", f"{refused} of {len(rows)}"]),
        ("Dice, mean", [_estimate(dice, ".3f"), ""]),
        *(
            (name, [_estimate(_of(error, read), form, unit) for error in (given, automatic)])
            for name, read, form, unit in _AREA_LINES
        ),
        ("limits of agreement, cm²", [_limits(given, "cm2"), _limits(automatic, "cm2")]),
        ("limits of agreement, %", [_limits(given, "percent"), _limits(automatic, "percent")]),
        ("within 3 %, within 7 %", [_within(given), _within(automatic)]),
    ]
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in lines
    )
    head = "<tr><th></th><th>slice given</th><th>automatic</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


_AREA_LINES: Final[tuple[tuple[str, Callable[[AreaError], Estimate], str, str], ...]] = (
    ("area, median absolute error", lambda e: e.median_percent, ".1f", " %"),
    ("area, 95th percentile of the absolute error", lambda e: e.p95_percent, ".1f", " %"),
    ("area, bias", lambda e: e.bias_percent, "+.1f", " %"),
    ("area, bias in cm²", lambda e: e.bias_cm2, "+.1f", " cm²"),
)


def _of(error: AreaError | None, read: Callable[[AreaError], Estimate]) -> Estimate | None:
    return None if error is None else read(error)


def _counted(error: AreaError | None) -> str:
    return "0" if error is None else f"{error.cases} ({error.patients})"


def _within(error: AreaError | None) -> str:
    if error is None:
        return ""
    return f"{error.within_3} and {error.within_7} of {error.cases}"


def _estimate(found: Estimate | None, form: str, unit: str = "") -> str:
    if found is None:
        return _NOTHING
    value, low, high = (_shown(one, form) for one in (found.value, found.low, found.high))
    return f"{value}{unit} ({low} to {high})"


def _shown(value: float, form: str) -> str:
    """Show a number; what rounds to nothing has no minus."""
    text = f"{value:{form}}"
    return text.replace("-", "+") if float(text) == 0 else text


def _limits(error: AreaError | None, unit: str) -> str:
    if error is None:
        return _NOTHING
    low, high = error.limits_cm2 if unit == "cm2" else error.limits_percent
    return f"{low.value:+.1f} to {high.value:+.1f}"


def _plots(rows: Sequence[Compared]) -> list[str]:
    charts = [
        _bland_altman(rows, automatic=False),
        _bland_altman(rows, automatic=True),
        _against(rows),
        _levels(rows),
    ]
    return ['<div class="plots">', *(svg(chart) for chart in charts), "</div>"]


def _bland_altman(rows: Sequence[Compared], *, automatic: bool) -> Chart:
    points = []
    for row in rows:
        measured = row.automatic_cm2 if automatic else row.given_cm2
        if measured is not None:
            mean, difference = (measured + row.reference_cm2) / 2, measured - row.reference_cm2
            note = f"{row.name}: {row.reference_cm2:.1f} drawn, {measured:.1f} measured"
            points.append(Point(mean, difference, row.scanner, note))
    error = area_error(rows, automatic)
    lines = []
    if error is not None:
        shown = [(error.bias_cm2, "bias"), (error.limits_cm2[0], "-1.96 SD")]
        shown.append((error.limits_cm2[1], "+1.96 SD"))
        lines = [
            Line(e.value, f"{word} {_shown(e.value, '+.1f')}", e.low, e.high) for e, word in shown
        ]
    return Chart(
        f"Bland-Altman, {'automatic' if automatic else 'slice given'}",
        "mean of measured and drawn area, cm²",
        "measured minus drawn, cm²",
        points,
        lines,
    )


def _against(rows: Sequence[Compared]) -> Chart:
    points = [
        Point(row.reference_cm2, row.automatic_cm2, row.scanner, row.name)
        for row in rows
        if row.automatic_cm2 is not None
    ]
    return Chart(
        "Automatic against drawn", "drawn area, cm²", "measured area, cm²", points, diagonal=True
    )


def _levels(rows: Sequence[Compared]) -> Chart:
    found = sorted(
        ((row.level_error_mm, row) for row in rows if row.level_error_mm is not None),
        key=lambda pair: pair[0],
    )
    points = [
        Point(place + 1, error, row.scanner, f"{row.name}: {error:+.1f} mm")
        for place, (error, row) in enumerate(found)
    ]
    lines = [Line(10.0, "10 mm"), Line(-10.0, "-10 mm")] if points else []
    return Chart("Level found minus drawn", "case, by error", "towards the head, mm", points, lines)


def _verdicts(rows: Sequence[Compared]) -> str:
    table = verdict_table(rows, VERDICTS)
    columns = [*VERDICTS, "not measured"]
    head = "".join(f'<th class="n">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(reference)}</th>'
        + "".join(f'<td class="n">{counts[column]}</td>' for column in columns)
        + "</tr>"
        for reference, counts in table.items()
    )
    return (
        "<table><caption>Rows: the drawn area against the cut-off. Columns: the node, automatic."
        f"</caption><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _groups(rows: Sequence[Compared], title: str, key: Callable[[Compared], str]) -> str:
    head = (
        f'<tr><th>{title}</th><th class="n">cases</th><th class="n">refused</th><th>Dice</th>'
        "<th>median absolute error</th><th>bias</th><th>limits of agreement, %</th></tr>"
    )
    lines = []
    for name in sorted({key(row) for row in rows}):
        group = [row for row in rows if key(row) == name]
        error = area_error(group, automatic=True)
        refused = sum(1 for row in group if row.automatic_cm2 is None)
        cells = [
            _estimate(mean_dice(group), ".3f"),
            _estimate(None if error is None else error.median_percent, ".1f", " %"),
            _estimate(None if error is None else error.bias_percent, "+.1f", " %"),
            _limits(error, "percent"),
        ]
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="n">{len(group)}</td>'
            f'<td class="n">{refused}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        )
    return f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def _cases(rows: Sequence[Compared]) -> str:
    head = "".join(
        f'<th class="n">{name}</th>'
        for name in ("drawn, cm²", "slice given", "automatic", "Dice", "level, mm")
    )
    lines = []
    for row in sorted(rows, key=_worst, reverse=True):
        given, automatic = row.given_error_percent, row.automatic_error_percent
        cells = [
            f"{row.reference_cm2:.1f}",
            _NOTHING if given is None else f"{row.given_cm2:.1f} ({given:+.1f} %)",
            _NOTHING if automatic is None else f"{row.automatic_cm2:.1f} ({automatic:+.1f} %)",
            _NOTHING if row.dice is None else f"{row.dice:.3f}",
            _NOTHING if row.level_error_mm is None else f"{row.level_error_mm:+.1f}",
        ]
        said = ", ".join([row.verdict, *row.flags])
        lines.append(
            f'<tr><td class="uid">{escape(row.name)}<br>{escape(row.patient)}, '
            f"{escape(row.sex or '?')}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + f"<td>{escape(said)}</td></tr>"
        )
    return (
        f"<table><thead><tr><th>case</th>{head}<th>verdict and warnings</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _worst(row: Compared) -> float:
    """Largest error of a case; what was refused comes first."""
    errors = [row.given_error_percent, row.automatic_error_percent]
    return max((np.inf if error is None else abs(error)) for error in errors)


def _pictures(report: Report) -> list[str]:
    order = {row.name: _worst(row) for row in report.rows}
    shown = sorted(report.pictures, key=lambda one: -order.get(one.name, 0.0))[:_PICTURES]
    if not shown:
        return []
    figures = [
        f'<figure><img alt="slice of {escape(one.name)}" src="data:image/png;base64,'
        f'{base64.b64encode(png(one)).decode()}"><figcaption class="uid">{escape(one.name)}'
        "</figcaption></figure>"
        for one in shown
    ]
    return [
        "<h2>The drawn slices with the largest errors</h2>",
        "<p>Green: drawn. Red: measured on the same slice. Yellow: both outlines.</p>",
        f'<div class="pictures">{"".join(figures)}</div>',
    ]


def png(picture: Picture) -> bytes:
    """Show a slice with both outlines, cut to the body and at most 360 pixels wide."""
    low, high = _OUTSIDE_HU
    grey = np.clip((picture.hu - low) / (high - low), 0, 1) * 255
    rgb = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    drawn, measured = _outline(picture.drawn), _outline(picture.measured)
    rgb[drawn] = (60, 200, 60)
    rgb[measured] = (230, 60, 60)
    rgb[drawn & measured] = (250, 210, 60)
    rows, columns = np.nonzero(picture.drawn | picture.measured)
    box = [
        slice(max(int(places.min()) - 25, 0), int(places.max()) + 26) for places in (rows, columns)
    ]
    image = Image.fromarray(rgb[box[0], box[1]])
    image.thumbnail((360, 360))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    outline: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(mask)
    return outline


def _excluded(report: Report) -> list[str]:
    if not report.excluded:
        return []
    lines = "".join(
        f'<tr><td class="uid">{escape(name)}</td><td>{escape(reason)}</td></tr>'
        for name, reason in report.excluded
    )
    return ["<h2>Left out</h2>", f"<table><tbody>{lines}</tbody></table>"]
