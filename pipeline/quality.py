"""Checks of a measurement: refuse what cannot be true, flag what weakens the number."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import ImplausibleResultError
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import (
    Acquisition,
    AnatomicLevel,
    Assessment,
    BodyComposition,
    CTVolume,
    Interval,
    QualityFlag,
    SecondOpinion,
    Severity,
    Subject,
    TissueMask,
    Verdict,
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
# Fat under the skin is near -100 HU whatever the scanner: other values mean wrong units.
_FAT_MEAN_HU: Final = (-130.0, -70.0)
_ENOUGH_FAT_CM2: Final = 5.0
_BODY_HU: Final = -300
_BONE_HU: Final = 200
_ARM_CM2: Final = 10.0
_ARM_BONE_CM2: Final = 0.5
_MOST_VARIATION: Final = 0.03  # SMAART-AI 2025: the spread of an ensemble goes with its error
_MOST_ASYMMETRY: Final = 0.12
_MOST_JUMP: Final = 0.10
_PIECE_CM2: Final = 1.0
_LEAST_IN_PIECES: Final = 0.85
# Siemens B60 to B80 and Br/Bl/Bv 56 and up, and the names that others give to sharp kernels.
_SHARP_KERNEL: Final = re.compile(
    r"^(B[6-8]\d|B[a-z](5[6-9]|[6-8]\d)|.*(BONE|EDGE|LUNG|SHARP|DETAIL))", re.IGNORECASE
)


def require_plausible(composition: BodyComposition) -> None:
    """Refuse numbers that no skeletal muscle at L3 has.

    Raises
    ------
    ImplausibleResultError
        Area outside 30 to 350 cm², mean attenuation outside -10 to 90 HU, or fat under the skin
        that is no fat: the images are not in Hounsfield units.
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
        *_shape_flags(labels == _label(SKELETAL_MUSCLE), volume, composition.pixel_area_mm2),
        *_acquisition_flags(volume.acquisition),
        *_subject_flags(subject),
    )


def check_certainty(
    area_cm2: float,
    ensemble_spread_cm2: float,
    nearby_cm2: Sequence[float],
    interval: Interval,
) -> tuple[QualityFlag, ...]:
    """Say how sure the model itself is.

    Parameters
    ----------
    area_cm2 : float
    ensemble_spread_cm2 : float
        Standard deviation over the members of the ensemble and their mirrored views.
    nearby_cm2 : sequence of float
        Areas of neighbouring positions from the feet to the head, 5 mm apart or a slice.
    interval : Interval
    """
    flags = []
    variation = ensemble_spread_cm2 / max(area_cm2, 1.0)
    if variation > _MOST_VARIATION:
        flags.append(
            _warn("SEGMENTATION_UNCERTAIN", f"Networks and views differ by {variation:.1%} (SD).")
        )
    jumps = [abs(b - a) / max(a, b, 1.0) for a, b in pairwise(nearby_cm2)]
    if max(jumps, default=0.0) > _MOST_JUMP:
        flags.append(
            _warn("NEIGHBOURS_DIFFER", f"The area jumps by {max(jumps):.0%} between near slices.")
        )
    if interval.coverage is None:
        flags.append(
            _inform("UNCALIBRATED", "The interval has a customary width; no errors calibrate it.")
        )
    return tuple(flags)


def check_agreement(assessment: Assessment, opinion: SecondOpinion) -> tuple[QualityFlag, ...]:
    """Say so when the classifier and the area disagree; an open verdict disagrees with nothing.

    Parameters
    ----------
    assessment : Assessment
        Of the size of the muscle.
    opinion : SecondOpinion
    """
    opposite = Verdict.ABOVE_CUTOFF if opinion.is_low else Verdict.BELOW_CUTOFF
    if assessment.verdict is not opposite:
        return ()
    found = "low" if opinion.is_low else "not low"
    message = f"The classifier takes the muscle as {found} ({opinion.probability:.0%}), unlike"
    return (_warn("CLASSIFIER_DISAGREES", f"{message} the measured area."),)


def _warn(code: str, message: str) -> QualityFlag:
    return QualityFlag(code, Severity.WARNING, message)


def _inform(code: str, message: str) -> QualityFlag:
    return QualityFlag(code, Severity.INFO, message)


def _level_flags(level: AnatomicLevel) -> list[QualityFlag]:
    flags = []
    if level.confidence < _LOW_CONFIDENCE:
        flags.append(
            _warn("LEVEL_UNCERTAIN", f"L3 was found with a confidence of {level.confidence:.2f}.")
        )
    if level.variant_suspected:
        flags.append(
            _warn(
                "VARIANT_SUSPECTED",
                "The number of lumbar vertebrae between ribs and sacrum does not seem to be five.",
            )
        )
    if level.extent is None:
        flags.append(_inform("LEVEL_GIVEN", "A person chose the slice."))
    return flags


def _image_flags(
    labels: NDArray[np.uint8], hu: NDArray[np.int16], composition: BodyComposition
) -> list[QualityFlag]:
    flags = []
    muscle = labels == _label(SKELETAL_MUSCLE)
    if _touches_edge_of_reconstruction(muscle, hu):
        flags.append(_warn("FOV_TRUNCATED", "Muscle reaches the edge of the field of view."))
    elif _touches_edge_of_reconstruction(_body(hu), hu):
        flags.append(_inform("FOV_SKIN_CUT", "The field of view cuts the skin; fat is missing."))
    if _has_arm(hu, composition.pixel_area_mm2):
        flags.append(_warn("ARMS_IN_FIELD", "An arm lies in the field; streaks may cross muscle."))
    metal_mm2 = np.count_nonzero(hu > _METAL_HU) * composition.pixel_area_mm2
    if metal_mm2 > _METAL_MM2:
        flags.append(_warn("METAL", f"{metal_mm2 / 100:.1f} cm2 of the slice is metal."))
    fat = composition.of("subcutaneous_fat")
    if fat.sd_hu is not None and fat.sd_hu > _NOISE_HU:
        message = f"Subcutaneous fat varies by {fat.sd_hu:.0f} HU (SD), a sign of noise."
        flags.append(_warn("NOISE_HIGH", message))
    low, high = _FAT_MEAN_HU
    enough = fat.area_cm2 > _ENOUGH_FAT_CM2
    if enough and fat.mean_hu is not None and not low <= fat.mean_hu <= high:
        message = f"Subcutaneous fat has {fat.mean_hu:.0f} HU: the units may be wrong."
        flags.append(_warn("HU_SUSPECT", message))
    return flags


def _shape_flags(
    muscle: NDArray[np.bool_], volume: CTVolume, pixel_area_mm2: float
) -> list[QualityFlag]:
    if not muscle.any():
        return []
    flags = []
    asymmetry = _asymmetry(muscle, volume)
    if asymmetry > _MOST_ASYMMETRY:
        flags.append(_warn("ASYMMETRY", f"One side holds {asymmetry:.0%} more muscle."))
    pieces, count = ndimage.label(muscle)
    sizes_cm2 = np.bincount(pieces.ravel(), minlength=count + 1)[1:] * pixel_area_mm2 / 100
    share = float(sizes_cm2[sizes_cm2 >= _PIECE_CM2].sum() / sizes_cm2.sum())
    if share < _LEAST_IN_PIECES:
        message = f"Only {share:.0%} of the muscle lies in pieces of 1 cm2 and more."
        flags.append(_warn("SCATTERED", message))
    return flags


def _asymmetry(muscle: NDArray[np.bool_], volume: CTVolume) -> float:
    """Difference of the muscle on both sides of the body's middle, as a share of the larger."""
    places = np.argwhere(muscle)
    x_mm = places @ volume.affine[0, 1:3]
    # Half of the muscle lies on either side of the median: the middle of the extreme points is
    # independent of how much muscle there is.
    middle_mm = (np.percentile(x_mm, 1) + np.percentile(x_mm, 99)) / 2
    sides = (int((x_mm > middle_mm).sum()), int((x_mm < middle_mm).sum()))
    return 1 - min(sides) / max(*sides, 1)


def _body(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Find the largest piece that is denser than air."""
    pieces, count = ndimage.label(hu > _BODY_HU)
    if count == 0:
        return np.zeros(hu.shape, dtype=np.bool_)
    largest: NDArray[np.bool_] = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return largest


def _has_arm(hu: NDArray[np.int16], pixel_area_mm2: float) -> bool:
    """Whether a piece beside the body has the size of an arm, with a bone in soft tissue."""
    pieces, count = ndimage.label((hu > _BODY_HU) & ~_body(hu))
    if count == 0:
        return False
    per_piece = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(pieces > 0, pieces, per_piece) * pixel_area_mm2 / 100
    bones = ndimage.sum_labels(hu > _BONE_HU, pieces, per_piece) * pixel_area_mm2 / 100
    soft = ndimage.sum_labels((hu > -190) & (hu <= 150), pieces, per_piece) * pixel_area_mm2 / 100
    arms = (sizes > _ARM_CM2) & (bones > _ARM_BONE_CM2) & (soft > 0.6 * sizes)
    return bool(arms.any())


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
    if _SHARP_KERNEL.match(acquisition.convolution_kernel):
        message = f"The kernel {acquisition.convolution_kernel[:16]} is a sharp one."
        flags.append(_inform("KERNEL_SHARP", message))
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
