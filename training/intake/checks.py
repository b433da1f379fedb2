"""Finds labels that do not belong to their images: empty, shifted, mirrored, swapped, implausible.

Muscle has the HU of soft tissue and ends where fat begins. So a drawing can be judged by its images
alone: how many of its muscle pixels have such HU, and whether more of them would have if it were
moved or mirrored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.preprocess import body_mask
from pipeline.types import CTVolume
from training import labels
from training.intake.found import Drawn

_SOFT_HU: Final = (-29, 150)
_FITS: Final = 0.8
"""Share of muscle with the HU of soft tissue below which a drawing is suspect."""

_GAIN: Final = 0.08
_SHIFTS_MM: Final = (6.0, 12.0, 24.0, 48.0)
_AREA_CM2: Final = (25.0, 400.0)
_NO_HU: Final = -1100
"""Nothing in a body is thinner than air; padding outside of the circle of reconstruction may be."""

_AIR_HU: Final = -500


class Code(StrEnum):
    """What is wrong with a case."""

    EMPTY = "EMPTY"
    GEOMETRY = "GEOMETRY"
    SHIFTED = "SHIFTED"
    MIRRORED = "MIRRORED"
    SWAPPED = "SWAPPED"
    CLASSES_SWAPPED = "CLASSES_SWAPPED"
    MISFIT = "MISFIT"
    AREA = "AREA"
    HU = "HU"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to look at a case before it is trained on."""

    case: str
    code: Code
    message: str


def check_case(case: str, volume: CTVolume, drawn: Drawn) -> list[Finding]:
    """Judge the labels of one case by its images.

    Parameters
    ----------
    case : str
    volume : CTVolume
    drawn : Drawn
        As drawn, before anything is derived.
    """
    findings = [Finding(case, Code.GEOMETRY, fault) for fault in drawn.faults]
    findings += _check_hu(case, volume, sorted(drawn.slices)[:3])
    muscle = {i: one == labels.MUSCLE for i, one in drawn.slices.items()}
    if not any(mask.any() for mask in muscle.values()):
        return [*findings, Finding(case, Code.EMPTY, "no pixel is labelled muscle")]
    findings += _check_areas(case, volume, muscle)
    return findings + _check_place(case, volume, drawn, muscle)


def find_swaps(suspects: Mapping[str, CTVolume], drawings: Mapping[str, Drawn]) -> list[Finding]:
    """Find pairs of suspects whose labels fit each other's images.

    Parameters
    ----------
    suspects : Mapping
        Case to its images; cases with a finding about where labels lie.
    drawings : Mapping
        Case to its labels.
    """
    findings = []
    for case, volume in suspects.items():
        own = _fit(volume, _muscle(drawings[case]))
        for other in suspects:
            muscle = _muscle(drawings[other])
            if other == case or not _same_grid(volume, drawings[other]):
                continue
            if _fit(volume, muscle) > max(_FITS, own + _GAIN):
                findings.append(Finding(case, Code.SWAPPED, f"the labels of {other} fit better"))
    return findings


def fit(volume: CTVolume, drawn: Drawn) -> float:
    """Share of the muscle pixels of a drawing that have the HU of soft tissue, 0 to 1."""
    return _fit(volume, _muscle(drawn))


def _muscle(drawn: Drawn) -> dict[int, NDArray[np.bool_]]:
    return {index: one == labels.MUSCLE for index, one in drawn.slices.items()}


def _same_grid(volume: CTVolume, drawn: Drawn) -> bool:
    return all(
        one.shape == volume.hu.shape[1:] and index < volume.hu.shape[0]
        for index, one in drawn.slices.items()
    )


def _check_hu(case: str, volume: CTVolume, indices: Sequence[int]) -> list[Finding]:
    """Values that are no HU, as three cases of SAROS have, and images without air."""
    for index in indices:
        hu = volume.hu[index]
        outline = ndimage.binary_fill_holes(body_mask(hu))
        impossible = np.count_nonzero(hu[outline] < _NO_HU)
        if impossible > 0.01 * np.count_nonzero(outline):
            message = f"slice {index} has {impossible} pixels below {_NO_HU} HU in the body"
            return [Finding(case, Code.HU, message)]
    lowest = int(volume.hu.min())
    if lowest > _AIR_HU:
        return [Finding(case, Code.HU, f"no pixel is air, the lowest value is {lowest} HU")]
    return []


def _check_areas(
    case: str, volume: CTVolume, muscle: Mapping[int, NDArray[np.bool_]]
) -> list[Finding]:
    findings = []
    for index, mask in muscle.items():
        area_cm2 = np.count_nonzero(mask) * volume.pixel_area_mm2 / 100
        if not _AREA_CM2[0] <= area_cm2 <= _AREA_CM2[1]:
            message = f"slice {index} has {area_cm2:.0f} cm² of muscle"
            findings.append(Finding(case, Code.AREA, message))
    return findings[:1]


def _check_place(
    case: str, volume: CTVolume, drawn: Drawn, muscle: Mapping[int, NDArray[np.bool_]]
) -> list[Finding]:
    here = _fit(volume, muscle)
    if (better := _class_swap(volume, drawn, here)) is not None:
        return [Finding(case, Code.CLASSES_SWAPPED, better)]
    findings = []
    mirrored = {name: _fit(volume, flipped) for name, flipped in _mirrored(volume, muscle).items()}
    shifted = {name: _fit(volume, moved) for name, moved in _moved(volume, muscle).items()}
    for code, options in ((Code.MIRRORED, mirrored), (Code.SHIFTED, shifted)):
        name = max(options, key=lambda key: options[key], default="")
        if name and options[name] > here + _GAIN:
            message = f"{here:.0%} of muscle has its HU, {options[name]:.0%} would {name}"
            findings.append((options[name], Finding(case, code, message)))
    if findings:
        return [max(findings, key=lambda pair: pair[0])[1]]
    if here < _FITS:
        message = f"only {here:.0%} of muscle has the HU of soft tissue"
        return [Finding(case, Code.MISFIT, message)]
    return []


def _class_swap(volume: CTVolume, drawn: Drawn, here: float) -> str | None:
    """Name a label other than muscle that looks like muscle while muscle does not."""
    if here >= 0.5:
        return None
    for label in (labels.SUBCUTANEOUS_FAT, labels.VISCERAL_FAT, labels.INTERMUSCULAR_FAT):
        masks = {index: one == label for index, one in drawn.slices.items()}
        if any(mask.any() for mask in masks.values()) and _fit(volume, masks) > _FITS:
            return f"label {label} has the HU of muscle, label {labels.MUSCLE} has not"
    return None


def _fit(volume: CTVolume, muscle: Mapping[int, NDArray[np.bool_]]) -> float:
    inside = total = 0
    for index, mask in muscle.items():
        if 0 <= index < volume.hu.shape[0] and mask.shape == volume.hu.shape[1:]:
            hu = volume.hu[index][mask]
            inside += int(np.count_nonzero((hu >= _SOFT_HU[0]) & (hu <= _SOFT_HU[1])))
        total += int(np.count_nonzero(mask))
    return inside / total if total else 0.0


def _mirrored(
    volume: CTVolume, muscle: Mapping[int, NDArray[np.bool_]]
) -> dict[str, dict[int, NDArray[np.bool_]]]:
    last = volume.hu.shape[0] - 1
    options = {
        "with rows mirrored": {i: m[::-1] for i, m in muscle.items()},
        "with columns mirrored": {i: m[:, ::-1] for i, m in muscle.items()},
        "turned by half": {i: m[::-1, ::-1] for i, m in muscle.items()},
    }
    if last > 0:
        options["with slices in the other order"] = {last - i: m for i, m in muscle.items()}
    return options


def _moved(
    volume: CTVolume, muscle: Mapping[int, NDArray[np.bool_]]
) -> dict[str, dict[int, NDArray[np.bool_]]]:
    rows_mm, columns_mm = volume.pixel_spacing_mm
    options: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for shift_mm in _SHIFTS_MM:
        for sign in (-1, 1):
            for axis, step_mm in ((0, rows_mm), (1, columns_mm)):
                cells = sign * round(shift_mm / step_mm)
                name = f"moved by {cells} {'rows' if axis == 0 else 'columns'}"
                options[name] = {i: _rolled(m, cells, axis) for i, m in muscle.items()}
    for steps in _slice_steps(volume, muscle):
        options[f"moved by {steps} slices"] = {i + steps: m for i, m in muscle.items()}
    return options


def _slice_steps(volume: CTVolume, muscle: Mapping[int, NDArray[np.bool_]]) -> Sequence[int]:
    lowest, highest = min(muscle), max(muscle)
    last = volume.hu.shape[0] - 1
    return [s for s in (-4, -2, -1, 1, 2, 4) if lowest + s >= 0 and highest + s <= last]


def _rolled(mask: NDArray[np.bool_], cells: int, axis: int) -> NDArray[np.bool_]:
    return np.roll(mask, cells, axis)
