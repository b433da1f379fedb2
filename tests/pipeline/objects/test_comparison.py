import dataclasses
import math
from datetime import date

import pytest

from pipeline.objects.comparison import change_since, change_text
from pipeline.types import Analysis, Interval, ModelIdentity, PriorMeasurement
from tests.phantoms import TorsoPhantom, phantom_analysis

ANALYSIS = phantom_analysis(TorsoPhantom((3, 64, 64), 6.0))
AREA_CM2 = ANALYSIS.composition.of("skeletal_muscle").area_cm2
DAY = date(2025, 3, 4)


def with_interval(half_width_cm2: float | None) -> Analysis:
    interval = half_width_cm2 and Interval(
        AREA_CM2 - half_width_cm2, AREA_CM2 + half_width_cm2, 0.9
    )
    return dataclasses.replace(ANALYSIS, interval=interval)


def test_errors_of_both_measurements_add_as_squares() -> None:
    prior = PriorMeasurement(100.0, DAY, Interval(96.0, 104.0, 0.9))
    change = change_since(with_interval(3.0), prior)
    assert change.error_percent == pytest.approx(5.0)
    assert change.percent == pytest.approx(AREA_CM2 - 100.0)


def test_a_prior_without_interval_is_believed_to_be_as_good() -> None:
    change = change_since(with_interval(3.0), PriorMeasurement(100.0, DAY))
    assert change.error_percent == pytest.approx(3.0 * math.sqrt(2))


def test_without_an_interval_the_error_is_said_to_be_unknown() -> None:
    change = change_since(with_interval(None), PriorMeasurement(100.0, DAY))
    assert change.error_percent is None
    assert "measurement error is not known" in change_text(change)


@pytest.mark.parametrize(("lost_cm2", "word"), [(4.0, "within"), (6.0, "beyond")])
def test_a_change_is_set_against_the_measurement_error(lost_cm2: float, word: str) -> None:
    prior = PriorMeasurement(AREA_CM2 + lost_cm2, DAY, Interval(96.0, 104.0, 0.9))
    said = change_text(change_since(with_interval(3.0), prior))
    assert f"{word} the measurement error" in said
    assert "2025-03-04" in said
    assert f"Change -{100 * lost_cm2 / (AREA_CM2 + lost_cm2):.1f} %" in said


def test_other_weights_are_mentioned() -> None:
    same, other = ANALYSIS.models[0], ModelIdentity("segmenter", "0.9", "ee" * 32)
    said = [
        change_text(change_since(ANALYSIS, PriorMeasurement(100.0, DAY, segmenter=one)))
        for one in (None, same, other)
    ]
    assert ["other weights" in sentence for sentence in said] == [False, False, True]


def test_a_prior_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no percentage"):
        PriorMeasurement(0.0, DAY)
