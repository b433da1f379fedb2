"""Draws the page by which a person understands a measurement at a glance."""

import io
import textwrap
from collections.abc import Iterator
from typing import Final

from PIL import Image, ImageDraw

from pipeline.objects.comparison import change_since, change_text
from pipeline.objects.views import MARK, axial_view, font, spine_views
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Analysis, Cutoff, Measure, PriorMeasurement, Severity, Sex, Verdict

_WIDTH_PX: Final = 1120
_BANNER_PX: Final = 44
_AXIAL_PX: Final = (700, 640)
# Higher views would cover the last of four lines of numbers.
_SPINE_PX: Final = (196, 248)
_COLUMN_PX: Final = _AXIAL_PX[0] + 12
_LINE_PX: Final = 24
_TEXT_WIDTH: Final = 124

_BANNER: Final = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS - COMPUTED WITHOUT HUMAN REVIEW"

Colour = tuple[int, int, int]

_WHITE: Final = (255, 255, 255)
_GREY: Final = (185, 185, 185)
# Words, fill and text: told apart without colour too.
_VERDICTS: Final = {
    Verdict.BELOW_CUTOFF: ("LOW MUSCLE {}", (235, 110, 40), "black"),
    Verdict.ABOVE_CUTOFF: ("MUSCLE {} NOT LOW", (70, 170, 95), "black"),
    Verdict.INDETERMINATE: ("BORDERLINE MUSCLE {}", MARK, "black"),
    Verdict.NOT_ASSESSED: ("NOT CLASSIFIED", (110, 110, 110), "white"),
}
_PEOPLE: Final = {Sex.MALE: "men", Sex.FEMALE: "women"}


def overlay_png(analysis: Analysis, prior: PriorMeasurement | None = None) -> bytes:
    """Return ``draw_page`` as a PNG file, the same bytes for the same analysis."""
    file = io.BytesIO()
    draw_page(analysis, prior).save(file, "PNG")
    return file.getvalue()


def draw_page(analysis: Analysis, prior: PriorMeasurement | None = None) -> Image.Image:
    """Draw the measured slice with its outline, its place along the spine, and the numbers.

    The page names nobody.

    Parameters
    ----------
    analysis : Analysis
    prior : PriorMeasurement or None

    Returns
    -------
    Image
        RGB, 1120 pixels wide.
    """
    lines = list(_lines(analysis, prior))
    bottom = _BANNER_PX + _AXIAL_PX[1]
    page = Image.new("RGB", (_WIDTH_PX, bottom + _LINE_PX * len(lines) + 20))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, page.width, _BANNER_PX - 1), fill=MARK)
    draw.text((page.width / 2, _BANNER_PX / 2), _BANNER, "black", font(25), "mm")
    page.paste(axial_view(analysis, _AXIAL_PX), (0, _BANNER_PX))
    for side, x, anchor in (("R", 8, "lm"), ("L", _AXIAL_PX[0] - 8, "rm")):
        draw.text((x, _BANNER_PX + _AXIAL_PX[1] / 2), side, "white", font(28), anchor)
    _draw_numbers(draw, analysis, prior)
    for place, view in enumerate(spine_views(analysis, _SPINE_PX)):
        left = _COLUMN_PX + place * (_SPINE_PX[0] + 4)
        page.paste(view, (left, bottom - _SPINE_PX[1] - 8))
    for number, (line, colour) in enumerate(lines):
        draw.text((12, bottom + 8 + number * _LINE_PX), line, colour, font(18))
    return page


def _draw_numbers(
    draw: ImageDraw.ImageDraw, analysis: Analysis, prior: PriorMeasurement | None
) -> None:
    muscle = analysis.composition.of(SKELETAL_MUSCLE)
    assessment = analysis.assessment
    x, y = _COLUMN_PX, _BANNER_PX + 14
    name = f"Skeletal muscle area at {analysis.composition.level.name}"
    draw.text((x, y), name, "white", font(24))
    number = f"{muscle.area_cm2:.1f} cm"
    draw.text((x, y + 30), number, "white", font(60))
    # The font has no superscript two.
    draw.text((x + draw.textlength(number, font(60)) + 2, y + 30), "2", "white", font(32))
    draw.text((x, y + 106), _interval_text(analysis), _GREY, font(18))
    word, fill, ink = _VERDICTS[assessment.verdict]
    noun = "INDEX" if assessment.cutoff and assessment.cutoff.measure is Measure.INDEX else "AREA"
    draw.rounded_rectangle((x, y + 136, _WIDTH_PX - 16, y + 188), 8, fill)
    draw.text(((x + _WIDTH_PX - 16) / 2, y + 162), word.format(noun), ink, font(28), "mm")
    if assessment.cutoff is not None:
        _draw_scale(draw, analysis, assessment.cutoff, y + 226)
    for place, line in enumerate(_details(analysis, prior)):
        draw.text((x, y + 264 + place * 26), line, "white", font(20))


def _draw_scale(draw: ImageDraw.ImageDraw, analysis: Analysis, cutoff: Cutoff, y: float) -> None:
    """Draw the value and its interval on a line that changes colour at the cut-off."""
    value, lower, upper = _compared(analysis, cutoff)
    start = min(cutoff.value, lower) * 0.75
    end = max(cutoff.value, upper) * 1.25
    left, right = _COLUMN_PX, _WIDTH_PX - 16

    def place(number: float) -> float:
        return left + (number - start) / (end - start) * (right - left)

    middle = place(cutoff.value)
    draw.rectangle((left, y - 5, middle, y + 5), fill=_VERDICTS[Verdict.BELOW_CUTOFF][1])
    draw.rectangle((middle, y - 5, right, y + 5), fill=_VERDICTS[Verdict.ABOVE_CUTOFF][1])
    draw.line((middle, y - 16, middle, y + 12), "white", 2)
    people = f", {_PEOPLE[analysis.subject.sex]}" if analysis.subject.sex is not None else ""
    anchor = "lb" if middle < (left + right) / 2 else "rb"
    draw.text((middle, y - 17), f" cut-off {cutoff.value:g}{people} ", "white", font(15), anchor)
    draw.line((place(lower), y, place(upper), y), "white", 5)
    dot = place(value)
    draw.ellipse((dot - 9, y - 9, dot + 9, y + 9), "white", "black", 2)


def _compared(analysis: Analysis, cutoff: Cutoff) -> tuple[float, float, float]:
    """Return value and bounds in the unit of the cut-off."""
    area_cm2 = analysis.composition.of(SKELETAL_MUSCLE).area_cm2
    index = analysis.composition.skeletal_muscle_index_cm2_m2
    unit = index / area_cm2 if cutoff.measure is Measure.INDEX and index is not None else 1.0
    interval = analysis.interval
    bounds = (area_cm2,) * 2 if interval is None else (interval.lower_cm2, interval.upper_cm2)
    return area_cm2 * unit, bounds[0] * unit, bounds[1] * unit


def _interval_text(analysis: Analysis) -> str:
    if analysis.interval is None:
        return "no interval: these weights are not calibrated"
    one = analysis.interval
    kind = "customary" if one.coverage is None else f"{one.coverage:.0%}"
    return f"{kind} interval {one.lower_cm2:.1f} to {one.upper_cm2:.1f}"


def _details(analysis: Analysis, prior: PriorMeasurement | None) -> Iterator[str]:
    composition = analysis.composition
    muscle = composition.of(SKELETAL_MUSCLE)
    if muscle.mean_hu is not None:
        yield f"mean attenuation {muscle.mean_hu:.1f} HU"
    if composition.skeletal_muscle_index_cm2_m2 is not None:
        index = composition.skeletal_muscle_index_cm2_m2
        yield f"index {index:.1f} cm2/m2"
    if prior is not None:
        change = change_since(analysis, prior)
        error = change.error_percent
        known = "not known" if error is None else f"\N{PLUS-MINUS SIGN}{error:.1f} %"
        yield f"previous {prior.area_cm2:.1f} cm2 on {prior.study_date:%Y-%m-%d}"
        yield f"change {change.percent:+.1f} %, error {known}"


def _lines(analysis: Analysis, prior: PriorMeasurement | None) -> Iterator[tuple[str, Colour]]:
    for sentence, colour in _sentences(analysis, prior):
        for line in textwrap.wrap(sentence, _TEXT_WIDTH):
            yield line, colour


def _sentences(analysis: Analysis, prior: PriorMeasurement | None) -> Iterator[tuple[str, Colour]]:
    level, assessment = analysis.composition.level, analysis.assessment
    yield assessment.reason, _WHITE
    if analysis.attenuation_assessment is not None:
        yield analysis.attenuation_assessment.reason, _WHITE
    if prior is not None:
        yield change_text(change_since(analysis, prior)), _WHITE
    for flag in analysis.quality:
        if flag.severity is Severity.WARNING:
            yield f"Warning: {flag.message}", MARK
    if assessment.citation:
        yield f"Cut-off: {assessment.citation}", _GREY
    models = ", ".join(f"{model.name} {model.version}" for model in analysis.models)
    yield (
        f"{level.name} is slice {level.slice_index + 1} of {len(analysis.volume.sources)} from "
        f"below, found with confidence {level.confidence:.2f}. Models: {models}.",
        _GREY,
    )
