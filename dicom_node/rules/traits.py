"""What rules may ask of a series: its source, its attributes, the geometry of its slices."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.rules.book import Geometry
from pipeline.errors import GeometryError, MissingAttributeError
from pipeline.objects.attributes import number, text, texts
from pipeline.objects.eligibility import axial_frames, plane_of

_SHARP_WORDS: Final = ("LUNG", "BONE", "EDGE", "SHARP", "ULTRA", "INNER")
_SOFT_WORDS: Final = ("STANDARD", "STND", "SOFT", "SMOOTH", "DETAIL", "BODY")
_SIEMENS: Final = re.compile(r"^[A-Z]([A-Z])?(\d\d)[A-Z]?\b")
_SIEMENS_SHARPEST_SOFT: Final = 45
_CANON: Final = re.compile(r"^FC(\d\d)\b")
_CANON_SOFT: Final = range(1, 30)
_PHILIPS_SOFT: Final = frozenset({"A", "B", "C", "SA", "SB", "SC"})
_PHILIPS_SHARP: Final = frozenset({"D", "E", "F", "L", "YB", "YC", "YD"})
_SAME_MM: Final = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class SeriesTraits:
    """An eligible series as rules see it.

    Parameters
    ----------
    series_instance_uid, study_instance_uid : str
    source : str
        Calling AE title.
    headers : tuple of Dataset
        Of its axial slices, one level each.
    geometry : mapping
        What could be measured; the rest is absent.
    """

    series_instance_uid: str
    study_instance_uid: str
    source: str
    headers: tuple[Dataset, ...]
    geometry: Mapping[Geometry, float]

    def values(self, keyword: str) -> tuple[str, ...]:
        """Values of an attribute: the commonest ones among the slices."""
        counted = Counter(texts(header, keyword) for header in self.headers)
        return counted.most_common(1)[0][0] if counted else ()


def traits_of(datasets: Sequence[Dataset], source: str) -> SeriesTraits:
    """Collect what rules may ask of a series that is eligible.

    Parameters
    ----------
    datasets : sequence of Dataset
        All objects of the series.
    source : str
    """
    headers = tuple(frame.header for frame in axial_frames(datasets))
    return SeriesTraits(
        series_instance_uid=text(datasets[0], "SeriesInstanceUID"),
        study_instance_uid=text(datasets[0], "StudyInstanceUID"),
        source=source,
        headers=headers,
        geometry=_geometry(headers),
    )


def kernel_is_soft(kernel: str) -> bool | None:
    """Say whether a Convolution Kernel (0018,1210) is made for soft tissue.

    Vendors number them in their own ways: Siemens from smooth to sharp (B30f, Br40d, Bl57d, where
    a second letter l is for lungs), Canon by purpose (FC13 body, FC30 bone, FC52 lung), Philips
    by letters, GE in words.

    Returns
    -------
    bool or None
        ``None`` for a kernel that is not known.
    """
    name = kernel.strip().upper()
    words = {True: _SOFT_WORDS, False: _SHARP_WORDS}
    for is_soft in (False, True):
        if any(word in name for word in words[is_soft]):
            return is_soft
    if found := _CANON.match(name):
        return int(found[1]) in _CANON_SOFT
    if found := _SIEMENS.match(name):
        return found[1] != "L" and int(found[2]) <= _SIEMENS_SHARPEST_SOFT
    if name in _PHILIPS_SOFT | _PHILIPS_SHARP:
        return name in _PHILIPS_SOFT
    return None


def _geometry(headers: Sequence[Dataset]) -> dict[Geometry, float]:
    heights = sorted(_heights_mm(headers))
    distinct = [h for i, h in enumerate(heights) if not i or h - heights[i - 1] > _SAME_MM]
    soft = kernel_is_soft("\\".join(texts(headers[0], "ConvolutionKernel")))
    found = {
        Geometry.SLICES: float(len(distinct)),
        Geometry.SOFT_TISSUE: 0.5 if soft is None else float(soft),
    }
    if len(distinct) > 1:
        gaps = [high - low for low, high in pairwise(distinct)]
        found[Geometry.SLICE_SPACING_MM] = float(median(gaps))
        found[Geometry.COVERAGE_MM] = distinct[-1] - distinct[0]
    thickness = number(headers[0], "SliceThickness") or found.get(Geometry.SLICE_SPACING_MM)
    if thickness:
        found[Geometry.SLICE_THICKNESS_MM] = thickness
    spacing = texts(headers[0], "PixelSpacing")
    if spacing:
        found[Geometry.PIXEL_MM] = float(spacing[0])
    return found


def _heights_mm(headers: Sequence[Dataset]) -> list[float]:
    heights = []
    for header in headers:
        try:
            heights.append(float(plane_of(header).position[2]))
        except (MissingAttributeError, GeometryError):
            continue
    return heights
