"""Intervals that cover what they claim."""

import numpy as np
import pytest

from pipeline.interval import TARGET_COVERAGE, expected_error_cm2, interval_of
from pipeline.weights import Calibration


def test_no_calibration_no_interval() -> None:
    assert interval_of(120.0, [1.0], None) is None
    assert interval_of(120.0, [1.0], Calibration((), 0)) is None


def test_expected_error_joins_spread_and_floor() -> None:
    assert expected_error_cm2(100.0, [3.0, 2.0]) == pytest.approx(np.sqrt(9.0 + 4.0 + 1.0))
    assert expected_error_cm2(100.0, []) == pytest.approx(1.0)


def test_few_patients_allow_little_coverage() -> None:
    interval = interval_of(100.0, [], Calibration((1.0, 2.0, 3.0), patients=3))
    assert interval is not None
    assert interval.coverage == pytest.approx(3 / 4)
    assert (interval.lower_cm2, interval.upper_cm2) == pytest.approx((97.0, 103.0))


def test_many_patients_reach_the_target() -> None:
    scores = tuple(np.linspace(0.0, 9.9, 100))
    interval = interval_of(100.0, [], Calibration(scores, patients=100))
    assert interval is not None
    assert interval.coverage == TARGET_COVERAGE
    # The 91st of 100 scores is 9.0.
    assert interval.upper_cm2 == pytest.approx(109.0)


def test_lower_end_is_never_negative() -> None:
    interval = interval_of(1.0, [25.0], Calibration((5.0,), patients=1))
    assert interval is not None
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
        interval = interval_of(measured[-1], [sigma[-1]], Calibration(scores, patients=19))
        assert interval is not None
        covered.append(interval.lower_cm2 <= truth[-1] <= interval.upper_cm2)
    # 300 trials of coverage 0.9: a mean under 0.85 has a probability below 0.3 %.
    assert np.mean(covered) >= 0.85
