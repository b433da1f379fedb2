"""Checks of a measurement: refuse what cannot be true, flag what weakens the number."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImplausibleResultError
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import (
    Acquisition,
    AnatomicLevel,
    BodyComposition,
    CTVolume,
    QualityFlag,
    Severity,
    Subject,
    TissueMask,
)

# Wider than any adult or child in the literature that the cut-offs come from: smallest infant
# trunks to the largest athletes.
_PLAUSIBLE_AREA_CM2: Final = (30.0, 350.0)
_PLAUSIBLE_MEAN_HU: Final = (-10.0, 90.0)
_THICK_SLICE_MM: Final = 5.0
_TILT_DEG: Final = 1.0
_REFERENCE_TUBE_VOLTAGE_KV: Final = 120.0
_LOW_CONFIDENCE: Final = 0.5
# A hard gate at -29..150 HU loses 1.6 % of true muscle at a pixel noise of 30 HU.
_NOISE_HU: Final = 30.0
_METAL_HU: Final = 2500
_METAL_MM2: Final = 50.0


def require_plausible(composition: BodyComposition) -> None:
    """Refuse numbers that no skeletal muscle at L3 has.

    Raises
    ------
    ImplausibleResultError
        Area outside 30 to 350 cm² or mean attenuation outside -10 to 90 HU.
    """
    muscle = composition.of(SKELETAL_MUSCLE)
    low, high = _PLAUSIBLE_AREA_CM2
    if not low <= muscle.area_cm2 <= high:
        raise ImplausibleResultError(
            f"a skeletal muscle area of {muscle.area_cm2:.1f} cm2 at L3 lies outside "
            f"{low:g} to {high:g} cm2"
        )
    low, high = _PLAUSIBLE_MEAN_HU
    if muscle.mean_hu is not None and not low <= muscle.mean_hu <= high:
        raise ImplausibleResultError(
            f"a mean muscle attenuation of {muscle.mean_hu:.1f} HU lies outside {low:g} to {high:g}"
        )


def check(
    volume: CTVolume,
    mask: TissueMask,
    composition: BodyComposition,
    subject: Subject,
    measured_hu: NDArray[np.int16],
) -> tuple[QualityFlag, ...]:
    """Everything a reader should know before trusting the number.

    Parameters
    ----------
    volume : CTVolume
    mask : TissueMask
    composition : BodyComposition
    subject : Subject
    measured_hu : NDArray[np.int16], shape (rows, columns)
        The Hounsfield units that were gated.

    Returns
    -------
    tuple of QualityFlag
        In a fixed order; empty when there is nothing to say.
    """
    labels = mask.slice_labels(composition.level.slice_index)
    return (
        *_level_flags(composition.level),
        *_image_flags(labels, measured_hu, composition),
        *_acquisition_flags(volume.acquisition),
        *_subject_flags(subject),
    )


def _warn(code: str, message: str) -> QualityFlag:
    return QualityFlag(code, Severity.WARNING, message)


def _inform(code: str, message: str) -> QualityFlag:
    return QualityFlag(code, Severity.INFO, message)


def _level_flags(level: AnatomicLevel) -> list[QualityFlag]:
    if level.confidence < _LOW_CONFIDENCE:
        return [
            _warn("LEVEL_UNCERTAIN", f"L3 was found with a confidence of {level.confidence:.2f}.")
        ]
    return []


def _image_flags(
    labels: NDArray[np.uint8], hu: NDArray[np.int16], composition: BodyComposition
) -> list[QualityFlag]:
    flags = []
    muscle = labels == _label(SKELETAL_MUSCLE)
    if _touches_edge_of_reconstruction(muscle, hu):
        flags.append(_warn("FOV_TRUNCATED", "Muscle reaches the edge of the field of view."))
    metal_mm2 = np.count_nonzero(hu > _METAL_HU) * composition.pixel_area_mm2
    if metal_mm2 > _METAL_MM2:
        flags.append(_warn("METAL", f"{metal_mm2 / 100:.1f} cm2 of the slice is metal."))
    fat_sd_hu = composition.of("subcutaneous_fat").sd_hu
    if fat_sd_hu is not None and fat_sd_hu > _NOISE_HU:
        flags.append(
            _warn(
                "NOISE_HIGH",
                f"Subcutaneous fat varies by {fat_sd_hu:.0f} HU (SD), a sign of noise.",
            )
        )
    return flags


def _label(tissue_name: str) -> int:
    return next(tissue.label for tissue in TISSUES if tissue.name == tissue_name)


def _touches_edge_of_reconstruction(muscle: NDArray[np.bool_], hu: NDArray[np.int16]) -> bool:
    if muscle[[0, -1]].any() or muscle[:, [0, -1]].any():
        return True
    # Outside its reconstruction circle a scanner writes one constant value at or below air.
    outside = hu <= min(int(hu.min()), -1000)
    rows, columns = np.indices(hu.shape)
    radius = np.hypot(rows - (hu.shape[0] - 1) / 2, columns - (hu.shape[1] - 1) / 2)
    corners = radius > max(hu.shape) / 2
    if not outside[corners].all():
        return False
    rim = (radius > max(hu.shape) / 2 - 2) & ~corners
    return bool((muscle & rim).any())


def _acquisition_flags(acquisition: Acquisition) -> list[QualityFlag]:
    flags = []
    thickness_mm = acquisition.slice_thickness_mm
    if thickness_mm is not None and thickness_mm > _THICK_SLICE_MM:
        flags.append(_warn("THICK_SLICE", f"Slices are {thickness_mm:g} mm thick."))
    tilt_deg = acquisition.gantry_tilt_deg
    if tilt_deg is not None and abs(tilt_deg) > _TILT_DEG:
        flags.append(_warn("GANTRY_TILT", f"The slices are tilted by {tilt_deg:.1f} degrees."))
    if acquisition.contrast_agent:
        flags.append(
            _inform("CONTRAST", "Contrast agent was given; the cut-offs are from unenhanced CT.")
        )
    voltage_kv = acquisition.tube_voltage_kv
    if voltage_kv is not None and voltage_kv != _REFERENCE_TUBE_VOLTAGE_KV:
        flags.append(
            _inform("TUBE_VOLTAGE", f"Tube voltage is {voltage_kv:g} kV instead of 120 kV.")
        )
    return flags


def _subject_flags(subject: Subject) -> list[QualityFlag]:
    flags = []
    if subject.sex is None:
        flags.append(_warn("SEX_UNKNOWN", "Patient's Sex is missing or neither M nor F."))
    if subject.age_years is None:
        flags.append(_inform("AGE_UNKNOWN", "The patient's age is not known."))
    elif subject.age_years < 18:
        flags.append(_warn("CHILD", "The patient is a child; the cut-offs are for adults."))
    return flags
