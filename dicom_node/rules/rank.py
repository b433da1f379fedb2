"""Rank the series of a study: the thinnest soft-tissue axial reconstruction that covers L3.

Whether L3 is covered, only the images tell. From the headers it is likely or unlikely; when the
chosen series turns out not to cover it, the next one takes its place.
"""

import re
from typing import Final

from dicom_node.rules.book import Geometry
from dicom_node.rules.traits import SeriesTraits

_PLACES: Final = ("BodyPartExamined", "ProtocolName", "SeriesDescription", "StudyDescription")
_WITH_L3: Final = re.compile(
    r"ABD|PELV|LUMB|LSPINE|LWS|BODY|CAP\b|TAP\b|BECKEN|BAUCH|TRUNK|LIVER|KIDNEY|RENAL|AORTA|UROG",
)
_WITHOUT_L3: Final = re.compile(
    r"HEAD|BRAIN|SKULL|NECK|SINUS|ORBIT|CHEST|THORA|LUNG|HEART|CORON|KNEE|FOOT|ANKLE|HAND|WRIST"
    r"|ELBOW|SHOULDER|LEG\b|ARM\b|CSPINE|TSPINE|HWS|BWS",
)
_LIKELY, _UNKNOWN, _UNLIKELY = 0.0, 1.0, 2.0
_IN_WORDS: Final = {
    _LIKELY: "L3 is likely covered",
    _UNKNOWN: "L3 may be covered",
    _UNLIKELY: "L3 is hardly covered",
}
_THICK_MM: Final = 99.0


def rank_of(traits: SeriesTraits) -> tuple[tuple[float, ...], str]:
    """Return a rank, whose smallest is the best, and what it was made of, in words.

    Parameters
    ----------
    traits : SeriesTraits

    Returns
    -------
    tuple of float
        Cover of L3, sharpness, slice thickness in mm, less the coverage in mm, Series Number.
    str
    """
    geometry = traits.geometry
    cover = _cover(traits)
    sharpness = 1.0 - geometry.get(Geometry.SOFT_TISSUE, 0.5)
    thickness_mm = geometry.get(Geometry.SLICE_THICKNESS_MM, _THICK_MM)
    coverage_mm = geometry.get(Geometry.COVERAGE_MM, 0.0)
    kernel = {0.0: "soft-tissue", 1.0: "sharp"}.get(sharpness, "unknown")
    summary = (
        f"{_IN_WORDS[cover]}, {kernel} kernel, slices of {thickness_mm:g} mm over "
        f"{coverage_mm:.0f} mm"
    )
    number = next(iter(traits.values("SeriesNumber")), "")
    order = float(number) if number.isdecimal() else 0.0
    return (cover, sharpness, thickness_mm, -coverage_mm, order), summary


def _cover(traits: SeriesTraits) -> float:
    """How likely L3 is covered, by the most specific attribute that names a region."""
    for keyword in _PLACES:
        words = " ".join(traits.values(keyword)).upper().replace("_", " ")
        if _WITH_L3.search(words):
            return _LIKELY
        if _WITHOUT_L3.search(words):
            return _UNLIKELY
    return _UNKNOWN
