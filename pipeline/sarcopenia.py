"""Comparison of a skeletal muscle area with cut-offs.

The words are "below" and "above the cut-off", never the disease: sarcopenia needs low strength too
(EWGSOP2, Cruz-Jentoft et al. 2019, Age Ageing 48:16).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Assessment, BodyComposition, Interval, Sex, Subject, Verdict

_ADULT_YEARS: Final = 18.0


@dataclass(frozen=True, slots=True)
class CutoffProfile:
    """Sex-specific cut-offs of the skeletal muscle area at L3.

    Parameters
    ----------
    name : str
    area_cm2 : Mapping[Sex, float]
        An area smaller than this is below the cut-off.
    citation : str
    population : str
        Whom the cut-offs were derived from.
    """

    name: str
    area_cm2: Mapping[Sex, float]
    citation: str
    population: str


SMA_L3: Final = CutoffProfile(
    name="sma_l3_144_92",
    area_cm2=MappingProxyType({Sex.MALE: 144.0, Sex.FEMALE: 92.0}),
    citation=(
        "Bhardwaj et al. 2025, arXiv 2508.17275; "
        "rounded from Derstine et al. 2018, Sci Rep 8:11369 (144.3 and 92.2 cm2)"
    ),
    population="kidney donor candidates of 18 to 40 years in the USA, unenhanced CT, mean - 2 SD",
)


def assess(
    composition: BodyComposition,
    subject: Subject,
    interval: Interval | None,
    profile: CutoffProfile = SMA_L3,
) -> Assessment:
    """Compare the skeletal muscle area with the cut-off for the patient's sex.

    Parameters
    ----------
    composition : BodyComposition
    subject : Subject
    interval : Interval or None
        The verdict is indeterminate when it holds the cut-off.
    profile : CutoffProfile

    Returns
    -------
    Assessment
        ``NOT_ASSESSED`` with the reason when the sex is unknown or the patient is a child.
    """
    if subject.age_years is not None and subject.age_years < _ADULT_YEARS:
        return _not_assessed(
            f"The patient is {subject.age_years:.0f} years old and the cut-offs are for adults."
        )
    if subject.sex is None:
        return _not_assessed("Patient's Sex is missing or neither M nor F, so no cut-off applies.")
    cutoff_cm2 = profile.area_cm2[subject.sex]
    area_cm2 = composition.of(SKELETAL_MUSCLE).area_cm2
    verdict, reason = _compare(area_cm2, cutoff_cm2, interval)
    return Assessment(verdict, cutoff_cm2, reason, profile.citation)


def _not_assessed(reason: str) -> Assessment:
    return Assessment(Verdict.NOT_ASSESSED, None, reason)


def _compare(area_cm2: float, cutoff_cm2: float, interval: Interval | None) -> tuple[Verdict, str]:
    if interval is not None and interval.lower_cm2 < cutoff_cm2 <= interval.upper_cm2:
        return Verdict.INDETERMINATE, (
            f"The interval {interval.lower_cm2:.1f} to {interval.upper_cm2:.1f} cm2 "
            f"holds the cut-off of {cutoff_cm2:g} cm2."
        )
    if area_cm2 < cutoff_cm2:
        return (
            Verdict.BELOW_CUTOFF,
            f"{area_cm2:.1f} cm2 is below the cut-off of {cutoff_cm2:g} cm2.",
        )
    return (
        Verdict.ABOVE_CUTOFF,
        f"{area_cm2:.1f} cm2 is not below the cut-off of {cutoff_cm2:g} cm2.",
    )
