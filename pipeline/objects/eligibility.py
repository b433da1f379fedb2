"""Decides from headers alone whether a series is one that Psoas measures."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from pipeline.errors import (
    DerivedImageError,
    GeometryError,
    LocalizerError,
    MissingAttributeError,
    NotAxialError,
    NotCTError,
    TooFewSlicesError,
    UnsupportedSeriesError,
)
from pipeline.geometry import SlicePlane, check_axial, slice_plane
from pipeline.objects.attributes import number, required_numbers, text
from pipeline.objects.frames import CT_SOP_CLASSES, Frame, frames_of, sop_class_uid

FEWEST_SLICES: Final = 10
"""With fewer, neither the vertebra nor its neighbours can be recognised."""

# Values 1 and 2 of Image Type prove nothing: de-identification and archives turn acquired slices
# into DERIVED\SECONDARY. Values 3 and up tell (PS3.3 C.8.2.1.1.1, C.8.15.2.1.1); vendors add words.
_LOCALIZER_WORDS: Final = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"})
_DERIVED_WORDS: Final = frozenset(
    {
        *("MPR", "REFORMATTED", "REFORMAT", "CPR", "CURVED", "CORONAL", "SAGITTAL", "OBLIQUE"),
        *("MIP", "MINIP", "MAXIMUM", "MINIMUM", "PROJECTION", "VRT", "SSD", "3D", "RENDERING"),
        *("RCBF", "RCBV", "MTT", "TTP", "TMAX", "PERFUSION", "SUBTRACTION", "IODINE"),
        *("SCREEN", "SCREENSHOT", "CAPTURE", "DOSE", "PROT", "PROTOCOL", "SUMMARY", "REPORT"),
    }
)


def check_eligibility(headers: Sequence[Dataset], fewest_slices: int = FEWEST_SLICES) -> None:
    """Refuse a series that cannot hold a measurable stack of axial CT slices.

    Parameters
    ----------
    headers : sequence of Dataset
        All objects of one series; pixel data is not looked at.
    fewest_slices : int
        Different positions that must be left; 1 where a person chose the slice.

    Raises
    ------
    UnsupportedSeriesError
        One of its leaves, for the reason that applies to most of the images.
    """
    frames = axial_frames(headers)
    positions = {_position_key(frame.header) for frame in frames}
    if len(positions) < fewest_slices:
        raise TooFewSlicesError(
            f"the series has {len(positions)} axial slices, at least {fewest_slices} are needed"
        )


def axial_frames(headers: Sequence[Dataset]) -> list[Frame]:
    """Keep the acquired axial slices of a series; localizers and captures are left out.

    Raises
    ------
    UnsupportedSeriesError
        No slice is left; the reason is the one that applies to most of the images.
    """
    kept: list[Frame] = []
    refusals: list[UnsupportedSeriesError] = []
    for frame in frames_of(headers):
        refusal = _refusal(frame)
        if refusal is None:
            kept.append(frame)
        else:
            refusals.append(refusal)
    if kept:
        return kept
    if not refusals:
        raise NotCTError("the series holds no image")
    commonest = Counter(type(refusal) for refusal in refusals).most_common(1)[0][0]
    raise next(refusal for refusal in refusals if type(refusal) is commonest)


def plane_of(header: Dataset) -> SlicePlane:
    """Read where an image plane lies in the patient.

    Raises
    ------
    MissingAttributeError
        Position, orientation or spacing is absent or unreadable.
    GeometryError
        The numbers place no plane.
    """
    return slice_plane(
        required_numbers(header, "ImagePositionPatient", 3),
        required_numbers(header, "ImageOrientationPatient", 6),
        required_numbers(header, "PixelSpacing", 2),
    )


def _refusal(frame: Frame) -> UnsupportedSeriesError | None:
    return (
        _refuse_other_objects(frame.dataset)
        or _refuse_image_type(frame.image_type[2:])
        or _refuse_orientation(frame.header)
    )


def _refuse_other_objects(dataset: Dataset) -> UnsupportedSeriesError | None:
    modality = text(dataset, "Modality")
    sop_class = sop_class_uid(dataset)
    if sop_class not in CT_SOP_CLASSES:
        if modality == "CT":
            return DerivedImageError(f"the images are {_name(sop_class)}, not acquired CT slices")
        return NotCTError(f"the objects are {_name(sop_class)} of modality {modality or 'unknown'}")
    if modality not in {"CT", ""}:
        return NotCTError(f"the modality is {modality[:16]}, not CT")
    if (number(dataset, "SamplesPerPixel") or 1) > 1:
        return DerivedImageError("the images are in colour: a capture, not acquired CT slices")
    return None


def _refuse_image_type(values: Sequence[str]) -> UnsupportedSeriesError | None:
    words = {word for value in values for word in re.split(r"[\s_/]+", value)}
    if words & _LOCALIZER_WORDS:
        return LocalizerError("the images are localizers: Image Type says " + "\\".join(values))
    if words & _DERIVED_WORDS:
        return DerivedImageError(
            "the images were computed from others: Image Type says " + "\\".join(values)
        )
    return None


def _refuse_orientation(header: Dataset) -> UnsupportedSeriesError | None:
    try:
        check_axial(plane_of(header))
    except NotAxialError as refusal:
        return refusal
    except (MissingAttributeError, GeometryError):
        return None  # no reason to skip the series without a word: reading it will say what lacks
    return None


def _position_key(header: Dataset) -> tuple[float, ...]:
    try:
        return required_numbers(header, "ImagePositionPatient", 3)
    except MissingAttributeError:
        return (float(id(header)),)


def _name(sop_class: UID) -> str:
    # A class that pydicom cannot name is quoted by its number at most.
    known = sop_class.name != str(sop_class)
    return f"{sop_class.name} objects" if known else "objects of an unknown SOP class"
