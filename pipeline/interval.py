"""Interval of the skeletal muscle area by normalised split-conformal prediction.

Each calibration score is the error on one patient whom the model had not seen, divided by the
expected error of that measurement. The k-th smallest of n scores covers k / (n + 1) of new
patients, provided that they resemble the calibrating ones (Vovk et al. 2005, Algorithmic Learning
in a Random World; Lei et al. 2018, J Am Stat Assoc 113:1094).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pipeline.types import Interval
from pipeline.weights import Calibration

TARGET_COVERAGE: Final = 0.9
# Keeps an ensemble that happens to agree from claiming to be exact: about the error of one reader
# who measures twice (Perthen et al. 2017: 0.6 %).
_LEAST_RELATIVE_ERROR: Final = 0.01


def expected_error_cm2(area_cm2: float, member_areas_cm2: Sequence[float]) -> float:
    """Size of error that the spread of an ensemble suggests.

    Parameters
    ----------
    area_cm2 : float
    member_areas_cm2 : sequence of float
        The same area according to each member and view.

    Returns
    -------
    float
        Square root of the variance plus (1 % of the area)².
    """
    spread = float(np.std(member_areas_cm2)) if len(member_areas_cm2) else 0.0
    return math.hypot(spread, _LEAST_RELATIVE_ERROR * area_cm2)


def interval_of(
    area_cm2: float, member_areas_cm2: Sequence[float], calibration: Calibration | None
) -> Interval | None:
    """Interval around an area.

    Parameters
    ----------
    area_cm2 : float
    member_areas_cm2 : sequence of float
    calibration : Calibration or None
        One score per patient.

    Returns
    -------
    Interval or None
        With the coverage that so few patients allow, at most 90 %; ``None`` without calibration.
    """
    if calibration is None or not calibration.scores:
        return None
    scores = sorted(calibration.scores)
    rank = min(math.ceil(TARGET_COVERAGE * (len(scores) + 1)), len(scores))
    half_width_cm2 = scores[rank - 1] * expected_error_cm2(area_cm2, member_areas_cm2)
    return Interval(
        lower_cm2=max(area_cm2 - half_width_cm2, 0.0),
        upper_cm2=area_cm2 + half_width_cm2,
        coverage=min(TARGET_COVERAGE, rank / (len(scores) + 1)),
    )
