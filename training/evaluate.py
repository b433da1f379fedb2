"""How well weights do on labelled slices, measured as a report would measure them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.preprocess import prepare
from pipeline.segment import label_tissues, native_views
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.weights import LoadedModel
from training.data import LabelledSlice

_MM2_PER_CM2 = 100.0
_MUSCLE = next(tissue.label for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One slice of a patient, measured and drawn.

    Parameters
    ----------
    case, patient : str
    slice_index : int
    threshold : float
    dice : float
        Of skeletal muscle on the native grid.
    reference_cm2, measured_cm2 : float
    spread_cm2 : float
        Standard deviation over members and views.
    """

    case: str
    patient: str
    slice_index: int
    threshold: float
    dice: float
    reference_cm2: float
    measured_cm2: float
    spread_cm2: float

    @property
    def error_percent(self) -> float:
        """Signed error of the area in percent of the reference."""
        return 100 * (self.measured_cm2 - self.reference_cm2) / self.reference_cm2


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over patients, so that a patient with many slices counts once.

    Errors are those of the skeletal muscle area in percent of the reference; the limits are
    Bland-Altman's over slices.
    """

    slices: int
    patients: int
    dice: float
    lowest_dice: float
    absolute_error_percent: float
    worst_error_percent: float
    bias_percent: float
    limits_percent: tuple[float, float]


def measure_slice(
    model: LoadedModel, labelled: LabelledSlice, thresholds: Sequence[float]
) -> list[SliceResult]:
    """Segment one slice and compare it with its drawing, at several thresholds.

    Parameters
    ----------
    model : LoadedModel
    labelled : LabelledSlice
    thresholds : sequence of float

    Returns
    -------
    list of SliceResult
        One for each threshold.
    """
    network_input = prepare(labelled.volume, labelled.slice_index, model.spec)
    views = native_views(model, network_input, model.networks)
    pixel_cm2 = labelled.volume.pixel_area_mm2 / _MM2_PER_CM2
    results = []
    for threshold in thresholds:
        masks = [
            label_tissues(view, network_input.native_hu, threshold) == _MUSCLE
            for view in [np.mean(views, axis=0), *views]
        ]
        areas = [np.count_nonzero(mask) * pixel_cm2 for mask in masks]
        results.append(
            SliceResult(
                case=labelled.case,
                patient=labelled.patient,
                slice_index=labelled.slice_index,
                threshold=threshold,
                dice=dice(masks[0], labelled.muscle),
                reference_cm2=float(np.count_nonzero(labelled.muscle) * pixel_cm2),
                measured_cm2=float(areas[0]),
                spread_cm2=float(np.std(areas[1:])),
            )
        )
    return results


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Overlap of two masks, 0 to 1; two empty masks overlap fully."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0


def summarize(results: Sequence[SliceResult]) -> Summary:
    """Summarise the results of one threshold, patient by patient.

    Parameters
    ----------
    results : sequence of SliceResult
        At least one.
    """
    patients = sorted({r.patient for r in results})
    groups = [[r for r in results if r.patient == patient] for patient in patients]
    errors = np.array([r.error_percent for r in results])
    spread = 1.96 * float(errors.std(ddof=1)) if len(errors) > 1 else 0.0
    return Summary(
        slices=len(results),
        patients=len(patients),
        dice=float(np.mean([np.mean([r.dice for r in g]) for g in groups])),
        lowest_dice=min(r.dice for r in results),
        absolute_error_percent=float(
            np.mean([np.mean([abs(r.error_percent) for r in g]) for g in groups])
        ),
        worst_error_percent=float(np.abs(errors).max()),
        bias_percent=float(np.mean([np.mean([r.error_percent for r in g]) for g in groups])),
        limits_percent=(float(errors.mean()) - spread, float(errors.mean()) + spread),
    )
