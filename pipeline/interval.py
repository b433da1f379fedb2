"""Interval of the skeletal muscle area by normalised split-conformal prediction.

Each calibration score is the error on one patient whom the model had not seen, divided by the
expected error of that measurement. The k-th smallest of n scores covers k / (n + 1) of new
patients, provided that they resemble the calibrating ones (Vovk et al. 2005, Algorithmic Learning
in a Random World; Lei et al. 2018, J Am Stat Assoc 113:1094).
"""

import math
from collections.abc import Sequence
from typing import Final

from pipeline.types import Acquisition, Interval
from pipeline.weights import Calibration

TARGET_COVERAGE: Final = 0.9
# Keeps an ensemble that happens to agree from claiming to be exact: about the error of one reader
# who measures twice (Perthen et al. 2017: 0.6 %).
_LEAST_RELATIVE_ERROR: Final = 0.01

UNCALIBRATED_RELATIVE_ERROR: Final = 0.07
"""Half width without calibration: the worst case of Bhardwaj et al. 2025, arXiv 2508.17275."""

# How much the way of taking the images moves the area, relative (one SD): contrast agent by van
# Vugt et al. and van der Werf et al. 2017, tube voltage by van der Werf et al. 2017.
_CONTRAST_RELATIVE_SD: Final = 0.015
_TUBE_VOLTAGE_RELATIVE_SD: Final = 0.025
_UNKNOWN_KERNEL_RELATIVE_SD: Final = 0.01
_REFERENCE_TUBE_VOLTAGE_KV: Final = 120.0
_SD_OF_TARGET_COVERAGE: Final = 1.645  # 90 % of a normal distribution


def expected_error_cm2(area_cm2: float, spreads_cm2: Sequence[float]) -> float:
    """Size of error that independent sources of variation suggest.

    Parameters
    ----------
    area_cm2 : float
    spreads_cm2 : sequence of float
        Standard deviations: over the members and views of the ensemble, over the slices that may
        be the middle of L3.

    Returns
    -------
    float
        Root of the sum of their squares and of (1 % of the area)².
    """
    return math.hypot(_LEAST_RELATIVE_ERROR * area_cm2, *spreads_cm2)


def acquisition_cm2(area_cm2: float, acquisition: Acquisition) -> float:
    """Half width that stands for how the images were made.

    Parameters
    ----------
    area_cm2 : float
    acquisition : Acquisition
    """
    voltage_kv = acquisition.tube_voltage_kv
    parts = (
        _CONTRAST_RELATIVE_SD * bool(acquisition.contrast_agent),
        _TUBE_VOLTAGE_RELATIVE_SD * (voltage_kv not in {None, _REFERENCE_TUBE_VOLTAGE_KV}),
        _UNKNOWN_KERNEL_RELATIVE_SD * (not acquisition.convolution_kernel),
    )
    return _SD_OF_TARGET_COVERAGE * area_cm2 * math.hypot(*parts)


def interval_of(
    area_cm2: float,
    spreads_cm2: Sequence[float],
    calibration: Calibration | None,
    acquisition: Acquisition,
) -> Interval:
    """Interval around an area.

    Parameters
    ----------
    area_cm2 : float
    spreads_cm2 : sequence of float
        As for ``expected_error_cm2``.
    calibration : Calibration or None
        One score per patient.
    acquisition : Acquisition

    Returns
    -------
    Interval
        With the coverage that so few patients allow, at most 90 %. Without calibration 7 % to
        either side and no coverage. What the acquisition adds widens either.
    """
    half_width_cm2, coverage = UNCALIBRATED_RELATIVE_ERROR * area_cm2, None
    if calibration is not None and calibration.scores:
        scores = sorted(calibration.scores)
        rank = min(math.ceil(TARGET_COVERAGE * (len(scores) + 1)), len(scores))
        half_width_cm2 = scores[rank - 1] * expected_error_cm2(area_cm2, spreads_cm2)
        coverage = min(TARGET_COVERAGE, rank / (len(scores) + 1))
    added_cm2 = acquisition_cm2(area_cm2, acquisition)
    half_width_cm2 = math.hypot(half_width_cm2, added_cm2)
    return Interval(
        lower_cm2=max(area_cm2 - half_width_cm2, 0.0),
        upper_cm2=area_cm2 + half_width_cm2,
        coverage=coverage,
        acquisition_cm2=added_cm2,
    )
