"""Verdicts on known areas."""

import pytest

from pipeline.sarcopenia import assess
from pipeline.types import (
    AnatomicLevel,
    BodyComposition,
    Interval,
    Sex,
    Subject,
    TissueMeasurement,
    Verdict,
)


def composition(area_cm2: float) -> BodyComposition:
    muscle = TissueMeasurement("skeletal_muscle", area_cm2, 40.0, 10.0)
    return BodyComposition(AnatomicLevel("L3", 0, 1.0), (muscle,), 1.0, None)


@pytest.mark.parametrize(
    ("sex", "area_cm2", "verdict", "cutoff_cm2"),
    [
        (Sex.MALE, 143.9, Verdict.BELOW_CUTOFF, 144.0),
        (Sex.MALE, 144.0, Verdict.ABOVE_CUTOFF, 144.0),
        (Sex.FEMALE, 91.9, Verdict.BELOW_CUTOFF, 92.0),
        (Sex.FEMALE, 92.0, Verdict.ABOVE_CUTOFF, 92.0),
    ],
)
def test_cutoff_depends_on_sex(
    sex: Sex, area_cm2: float, verdict: Verdict, cutoff_cm2: float
) -> None:
    assessment = assess(composition(area_cm2), Subject(sex=sex, age_years=60), None)
    assert (assessment.verdict, assessment.cutoff_cm2) == (verdict, cutoff_cm2)
    assert "2508.17275" in assessment.citation


def test_interval_that_holds_the_cutoff_gives_no_verdict() -> None:
    interval = Interval(140.0, 150.0, 0.9)
    assessment = assess(composition(145.0), Subject(sex=Sex.MALE), interval)
    assert assessment.verdict is Verdict.INDETERMINATE


@pytest.mark.parametrize(
    ("lower_cm2", "upper_cm2", "verdict"),
    [
        (144.0, 150.0, Verdict.ABOVE_CUTOFF),
        (130.0, 143.9, Verdict.BELOW_CUTOFF),
    ],
)
def test_interval_on_one_side_keeps_the_verdict(
    lower_cm2: float, upper_cm2: float, verdict: Verdict
) -> None:
    middle_cm2 = (lower_cm2 + upper_cm2) / 2
    interval = Interval(lower_cm2, upper_cm2, 0.9)
    assessment = assess(composition(middle_cm2), Subject(sex=Sex.MALE), interval)
    assert assessment.verdict is verdict


def test_unknown_sex_gets_no_verdict_but_a_reason() -> None:
    assessment = assess(composition(100.0), Subject(), None)
    assert assessment.verdict is Verdict.NOT_ASSESSED
    assert assessment.cutoff_cm2 is None
    assert "Sex" in assessment.reason


def test_child_gets_no_adult_verdict() -> None:
    assessment = assess(composition(60.0), Subject(sex=Sex.FEMALE, age_years=12.0), None)
    assert assessment.verdict is Verdict.NOT_ASSESSED
    assert "adults" in assessment.reason
