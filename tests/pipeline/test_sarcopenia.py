"""Verdicts on known areas."""

import pytest

from pipeline.cutoffs import CutoffProfile, find_profile
from pipeline.sarcopenia import DENSITY_MEASURES, SIZE_MEASURES, assess, assess_attenuation
from pipeline.types import (
    Acquisition,
    AnatomicLevel,
    BodyComposition,
    Interval,
    Sex,
    Subject,
    TissueMeasurement,
    Verdict,
)

PAPER = find_profile("paper", SIZE_MEASURES)


def size(name: str) -> CutoffProfile:
    return find_profile(name, SIZE_MEASURES)


def composition(area_cm2: float, mean_hu: float = 40.0) -> BodyComposition:
    muscle = TissueMeasurement("skeletal_muscle", area_cm2, mean_hu, 10.0)
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
    assessment = assess(composition(area_cm2), Subject(sex=sex, age_years=60), None, PAPER)
    assert (assessment.verdict, assessment.cutoff_cm2) == (verdict, cutoff_cm2)
    assert "2508.17275" in assessment.citation


def test_interval_that_holds_the_cutoff_gives_no_verdict() -> None:
    interval = Interval(140.0, 150.0, 0.9)
    assessment = assess(composition(145.0), Subject(sex=Sex.MALE), interval, PAPER)
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
    assessment = assess(composition(middle_cm2), Subject(sex=Sex.MALE), interval, PAPER)
    assert assessment.verdict is verdict


@pytest.mark.parametrize(
    ("area_cm2", "verdict", "cutoff_cm2"),
    [
        (91.0, Verdict.BELOW_CUTOFF, 92.0),
        (100.0, Verdict.NOT_ASSESSED, None),
        (143.9, Verdict.NOT_ASSESSED, None),
        (144.0, Verdict.ABOVE_CUTOFF, 144.0),
    ],
)
def test_without_a_sex_there_is_a_verdict_only_where_both_agree(
    area_cm2: float, verdict: Verdict, cutoff_cm2: float | None
) -> None:
    assessment = assess(composition(area_cm2), Subject(), None, PAPER)
    assert (assessment.verdict, assessment.cutoff_cm2) == (verdict, cutoff_cm2)


def test_without_a_sex_and_a_verdict_the_reason_names_the_sex() -> None:
    assert "Sex" in assess(composition(100.0), Subject(), None, PAPER).reason


def test_child_gets_no_adult_verdict() -> None:
    assessment = assess(composition(60.0), Subject(sex=Sex.FEMALE, age_years=12.0), None, PAPER)
    assert assessment.verdict is Verdict.NOT_ASSESSED
    assert "adults" in assessment.reason


def test_index_is_compared_with_cutoffs_of_the_index() -> None:
    tall = Subject(sex=Sex.MALE, height_m=2.0)
    below = assess(composition(160.0), tall, None, size("derstine2018_smi"))
    assert below.verdict is Verdict.BELOW_CUTOFF  # 40 cm2/m2
    assert below.cutoff is not None
    assert below.cutoff.value == 45.4
    assert below.cutoff_cm2 is None
    short = Subject(sex=Sex.MALE, height_m=1.6)
    above = assess(composition(160.0), short, None, size("derstine2018_smi"))
    assert above.verdict is Verdict.ABOVE_CUTOFF  # 62.5 cm2/m2


def test_interval_of_the_index_is_scaled_with_the_height() -> None:
    subject = Subject(sex=Sex.MALE, height_m=2.0)
    interval = Interval(176.0, 190.0, 0.9)  # 44 to 47.5 cm2/m2
    assessment = assess(composition(183.0), subject, interval, size("derstine2018_smi"))
    assert assessment.verdict is Verdict.INDETERMINATE


@pytest.mark.parametrize(
    ("profile", "subject", "word"),
    [
        ("derstine2018_smi", Subject(sex=Sex.MALE), "height"),
        ("martin2013", Subject(sex=Sex.MALE, height_m=1.8), "body mass"),
        ("westenberg2023", Subject(sex=Sex.MALE, height_m=1.8), "age"),
        ("westenberg2023", Subject(sex=Sex.MALE, height_m=1.8, age_years=85.0), "age"),
    ],
)
def test_what_a_profile_needs_and_is_not_known_is_named(
    profile: str, subject: Subject, word: str
) -> None:
    assessment = assess(composition(120.0), subject, None, size(profile))
    assert assessment.verdict is Verdict.NOT_ASSESSED
    assert word in assessment.reason


def test_attenuation_is_compared_on_unenhanced_images_only() -> None:
    profile = find_profile("derstine2018_attenuation", DENSITY_MEASURES)
    subject = Subject(sex=Sex.FEMALE, age_years=60.0)
    plain, enhanced = Acquisition(), Acquisition(contrast_agent=True)
    low = assess_attenuation(composition(100.0, 30.0), subject, plain, profile)
    assert low.verdict is Verdict.BELOW_CUTOFF
    high = assess_attenuation(composition(100.0, 34.3), subject, plain, profile)
    assert high.verdict is Verdict.ABOVE_CUTOFF
    not_compared = assess_attenuation(composition(100.0, 30.0), subject, enhanced, profile)
    assert not_compared.verdict is Verdict.NOT_ASSESSED
    assert "Contrast" in not_compared.reason
