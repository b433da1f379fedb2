"""Areas and attenuation of the tissues on the measured slice."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import AnatomicLevel, BodyComposition, TissueMask, TissueMeasurement

_MM2_PER_CM2 = 100.0


def area_cm2(mask: NDArray[np.bool_], pixel_area_mm2: float) -> float:
    """Area covered by ``mask``.

    Parameters
    ----------
    mask : NDArray[np.bool_], shape (rows, columns)
    pixel_area_mm2 : float
        Area of one pixel in square millimetres.

    Returns
    -------
    float
        Area in square centimetres.
    """
    return float(np.count_nonzero(mask)) * pixel_area_mm2 / _MM2_PER_CM2


def measure(
    mask: TissueMask,
    hu: NDArray[np.int16],
    level: AnatomicLevel,
    pixel_area_mm2: float,
    height_m: float | None = None,
) -> BodyComposition:
    """Measure every tissue on the slice of the level, on its native grid.

    Parameters
    ----------
    mask : TissueMask
    hu : NDArray[np.int16], shape (rows, columns)
        The Hounsfield units that the mask was gated with.
    level : AnatomicLevel
    pixel_area_mm2 : float
    height_m : float, optional
        For the skeletal muscle index, area / height² (Prado et al. 2008, Lancet Oncol 9:629).

    Returns
    -------
    BodyComposition
    """
    labels = mask.slice_labels(level.slice_index)
    tissues = tuple(
        _measure_tissue(tissue.name, labels == tissue.label, hu, pixel_area_mm2)
        for tissue in TISSUES
    )
    index = None if height_m is None else _muscle_area_cm2(tissues) / height_m**2
    return BodyComposition(level, tissues, pixel_area_mm2, index)


def _measure_tissue(
    name: str, mask: NDArray[np.bool_], hu: NDArray[np.int16], pixel_area_mm2: float
) -> TissueMeasurement:
    inside = hu[mask].astype(np.float64)
    if inside.size == 0:
        return TissueMeasurement(name, 0.0, None, None)
    return TissueMeasurement(
        name, area_cm2(mask, pixel_area_mm2), float(inside.mean()), float(inside.std())
    )


def _muscle_area_cm2(tissues: Iterable[TissueMeasurement]) -> float:
    return next(tissue.area_cm2 for tissue in tissues if tissue.tissue == SKELETAL_MUSCLE)
