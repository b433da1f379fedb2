"""Comparison of skeletal muscle with cut-offs.

The words are "below" and "above the cut-off", never the disease: sarcopenia needs low strength too
(EWGSOP2, Cruz-Jentoft et al. 2019, Age Ageing 48:16).
"""

from collections.abc import Sequence
from typing import Final

from pipeline.cutoffs import CutoffProfile, CutoffRow
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import (
    Acquisition,
    Assessment,
    BodyComposition,
    Interval,
    Measure,
    Sex,
    Subject,
    Verdict,
)

SIZE_MEASURES: Final = frozenset({Measure.AREA, Measure.INDEX})
DENSITY_MEASURES: Final = frozenset({Measure.ATTENUATION})
_ADULT_YEARS: Final = 18.0
_UNITS: Final = {Measure.AREA: "cm2", Measure.INDEX: "cm2/m2", Measure.ATTENUATION: "HU"}
_Range = tuple[float, float]


def assess(
    composition: BodyComposition,
    subject: Subject,
    interval: Interval | None,
    profile: CutoffProfile,
) -> Assessment:
    """Compare the skeletal muscle area, or its index, with a cut-off.

    Without a sex there is a verdict only where the cut-offs of both sexes agree.

    Parameters
    ----------
    composition : BodyComposition
    subject : Subject
    interval : Interval or None
        Of the area. The verdict is indeterminate when it holds the cut-off.
    profile : CutoffProfile
        Of a measure of size.

    Returns
    -------
    Assessment
        ``NOT_ASSESSED`` with the reason when no cut-off applies.
    """
    area_cm2 = composition.of(SKELETAL_MUSCLE).area_cm2
    bounds = (area_cm2, area_cm2) if interval is None else (interval.lower_cm2, interval.upper_cm2)
    scale = 1.0
    if profile.measure is Measure.INDEX:
        if subject.height_m is None:
            return _not_assessed(f"{profile.name} needs the height, which is not known.")
        scale = subject.height_m**-2
    return _assess(area_cm2 * scale, (bounds[0] * scale, bounds[1] * scale), subject, profile)


def assess_attenuation(
    composition: BodyComposition,
    subject: Subject,
    acquisition: Acquisition,
    profile: CutoffProfile,
) -> Assessment:
    """Compare the mean attenuation of skeletal muscle with a cut-off (myosteatosis).

    Contrast agent raises it by 5 to 8 HU (van Vugt et al., 50 CTs), so that enhanced images are
    not compared with cut-offs from unenhanced ones.

    Parameters
    ----------
    composition : BodyComposition
    subject : Subject
    acquisition : Acquisition
    profile : CutoffProfile
        Of attenuation.
    """
    mean_hu = composition.of(SKELETAL_MUSCLE).mean_hu
    if mean_hu is None:
        return _not_assessed("There is no muscle whose attenuation could be compared.")
    if acquisition.contrast_agent:
        return _not_assessed(
            "Contrast agent raises the attenuation, and the cut-offs are not for enhanced images."
        )
    return _assess(mean_hu, (mean_hu, mean_hu), subject, profile)


def _assess(value: float, bounds: _Range, subject: Subject, profile: CutoffProfile) -> Assessment:
    if subject.age_years is not None and subject.age_years < _ADULT_YEARS:
        return _not_assessed(
            f"The patient is {subject.age_years:.0f} years old and the cut-offs are for adults."
        )
    sexes = tuple(Sex) if subject.sex is None else (subject.sex,)
    rows = [profile.rows_for(subject, sex) for sex in sexes]
    if not all(rows):
        return _not_assessed(f"{profile.name} has no cut-off for the patient's age or body mass.")
    if subject.sex is None:
        return _assess_without_sex(value, bounds, [row for group in rows for row in group], profile)
    if len(rows[0]) > 1:
        return _not_assessed(
            f"{profile.name} depends on age or body mass, which the images do not tell."
        )
    return _compare(value, bounds, rows[0][0], profile)


def _assess_without_sex(
    value: float, bounds: _Range, rows: Sequence[CutoffRow], profile: CutoffProfile
) -> Assessment:
    assessments = [_compare(value, bounds, row, profile) for row in rows]
    if len({assessment.verdict for assessment in assessments}) > 1:
        return _not_assessed(
            "Patient's Sex is missing or neither M nor F, and the cut-offs of the sexes disagree."
        )
    # The stricter of the two is the one to quote: it holds for the other all the more.
    below = assessments[0].verdict is Verdict.BELOW_CUTOFF
    order = sorted(zip(rows, assessments, strict=True), key=lambda pair: pair[0].below)
    return order[0 if below else -1][1]


def _not_assessed(reason: str) -> Assessment:
    return Assessment(Verdict.NOT_ASSESSED, None, reason)


def _compare(value: float, bounds: _Range, row: CutoffRow, profile: CutoffProfile) -> Assessment:
    unit = _UNITS[profile.measure]
    limit = f"the cut-off of {row.below:g} {unit}"
    if bounds[0] < row.below <= bounds[1]:
        verdict = Verdict.INDETERMINATE
        reason = f"The interval {bounds[0]:.1f} to {bounds[1]:.1f} {unit} holds {limit}."
    elif value < row.below:
        verdict, reason = Verdict.BELOW_CUTOFF, f"{value:.1f} {unit} is below {limit}."
    else:
        verdict, reason = Verdict.ABOVE_CUTOFF, f"{value:.1f} {unit} is not below {limit}."
    return Assessment(verdict, profile.cutoff(row), reason)
