"""Intervals that cover what they claim."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.interval import (
    TARGET_COVERAGE,
    acquisition_cm2,
    expected_error_cm2,
    interval_of,
)
from pipeline.types import Acquisition
from pipeline.weights import Calibration

PLAIN = Acquisition(tube_voltage_kv=120.0, contrast_agent=False, convolution_kernel="B30f")


@pytest.mark.parametrize("calibration", [None, Calibration((), 0)])
def test_without_calibration_the_width_is_customary_and_no_coverage_is_claimed(
    calibration: Calibration | None,
) -> None:
    interval = interval_of(100.0, [1.0], calibration, PLAIN)
    assert (interval.lower_cm2, interval.upper_cm2) == pytest.approx((93.0, 107.0))
    assert interval.coverage is None


def test_acquisition_widens_the_interval_and_is_listed() -> None:
    assert acquisition_cm2(100.0, PLAIN) == 0.0
    enhanced = replace(PLAIN, contrast_agent=True)
    assert acquisition_cm2(100.0, enhanced) == pytest.approx(1.645 * 1.5)
    odd = replace(enhanced, tube_voltage_kv=80.0, convolution_kernel="")
    added_cm2 = 1.645 * np.sqrt(1.5**2 + 2.5**2 + 1.0**2)
    interval = interval_of(100.0, [], Calibration((2.0,), 1), odd)
    assert interval.acquisition_cm2 == pytest.approx(added_cm2)
    assert interval.upper_cm2 == pytest.approx(100.0 + np.hypot(2.0, added_cm2))


def test_expected_error_joins_spread_and_floor() -> None:
    assert expected_error_cm2(100.0, [3.0, 2.0]) == pytest.approx(np.sqrt(9.0 + 4.0 + 1.0))
    assert expected_error_cm2(100.0, []) == pytest.approx(1.0)


def test_few_patients_allow_little_coverage() -> None:
    interval = interval_of(100.0, [], Calibration((1.0, 2.0, 3.0), patients=3), PLAIN)
    assert interval.coverage == pytest.approx(3 / 4)
    assert (interval.lower_cm2, interval.upper_cm2) == pytest.approx((97.0, 103.0))


def test_many_patients_reach_the_target() -> None:
    scores = tuple(np.linspace(0.0, 9.9, 100))
    interval = interval_of(100.0, [], Calibration(scores, patients=100), PLAIN)
    assert interval.coverage == TARGET_COVERAGE
    # The 91st of 100 scores is 9.0.
    assert interval.upper_cm2 == pytest.approx(109.0)


def test_lower_end_is_never_negative() -> None:
    interval = interval_of(1.0, [25.0], Calibration((5.0,), patients=1), PLAIN)
    assert interval.lower_cm2 == 0.0


def test_claimed_coverage_is_reached_on_new_patients() -> None:
    generator = np.random.default_rng(7)
    covered = []
    for _ in range(300):
        truth = generator.uniform(80, 200, 20)
        sigma = generator.uniform(1, 6, 20)
        measured = truth + generator.normal(0, 2, 20) * sigma
        scores = tuple(
            abs(m - t) / expected_error_cm2(m, [s])
            for m, t, s in zip(measured[:-1], truth[:-1], sigma[:-1], strict=True)
        )
        interval = interval_of(measured[-1], [sigma[-1]], Calibration(scores, patients=19), PLAIN)
        covered.append(interval.lower_cm2 <= truth[-1] <= interval.upper_cm2)
    # 300 trials of coverage 0.9: a mean under 0.85 has a probability below 0.3 %.
    assert np.mean(covered) >= 0.85
