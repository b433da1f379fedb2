from pathlib import Path

import numpy as np
import pytest

from pipeline.analyze import load_cutoffs
from pipeline.preprocess import PreprocessSpec
from tests.training.external.studies import case, models, phantom, ring
from training.external.areas import AreaCheck, area_lines, check_areas
from training.external.cases import Stated, UnusableCaseError, compare_case, read_stated

CUTOFFS = load_cutoffs()
BODY = phantom()
NAME = BODY.series_instance_uid


def test_case_is_measured_on_the_drawn_slice_and_on_the_found_one() -> None:
    row, picture = compare_case(case(BODY, ring(BODY, 2)), {}, models(3), CUTOFFS)
    assert row.reference_cm2 == pytest.approx(BODY.muscle_area_cm2, rel=0.01)
    assert row.dice is not None
    assert row.dice > 0.97
    assert row.given_error_percent == pytest.approx(0, abs=3)
    assert row.automatic_error_percent == pytest.approx(0, abs=3)
    assert row.level_error_mm == BODY.slice_mm
    assert row.slice_index == 2
    assert row.reference_verdict == "not below"
    assert row.verdict == "above cutoff"
    assert np.array_equal(picture.drawn, BODY.muscle_mask()[2])


def test_refusal_of_the_level_is_a_result_and_the_drawn_slice_is_measured_all_the_same() -> None:
    row, _ = compare_case(case(BODY, ring(BODY, 2)), {}, models(None), CUTOFFS)
    assert row.verdict == "L3_UNCERTAIN"
    assert row.automatic_cm2 is None
    assert row.dice is not None


def test_stated_level_and_sex_count() -> None:
    drawn = ring(BODY, 0) | ring(BODY, 3)
    body = case(BODY, drawn, sex="")
    z_mm = BODY.volume().slice_z_mm(3)
    row, _ = compare_case(body, {NAME: Stated(150.0, z_mm, "M")}, models(1), CUTOFFS)
    assert (row.slice_index, row.sex, row.stated_cm2) == (3, "M", 150.0)
    assert row.level_error_mm == -2 * BODY.slice_mm
    # Of several drawn slices without a stated level none is the one that had to be found.
    row, _ = compare_case(body, {}, models(1), CUTOFFS)
    assert (row.slice_index, row.level_error_mm, row.reference_verdict) == (0, None, "no cut-off")


@pytest.mark.parametrize(
    ("drawn", "reason"), [(None, "nobody drew"), ({1: np.zeros((160, 160), np.uint8)}, "no muscle")]
)
def test_case_without_a_reference_is_named(
    drawn: dict[int, np.ndarray] | None, reason: str
) -> None:
    with pytest.raises(UnusableCaseError, match=reason):
        compare_case(case(BODY, drawn), {}, models(), CUTOFFS)


def test_table_of_what_a_site_states_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stated.csv"
    path.write_text("\ufeffcase,area_cm2,z_mm,sex\na,101.5,,f\nb,,-330,\n", encoding="utf-8")
    assert read_stated(path) == {
        "a": Stated(101.5, None, "F"),
        "b": Stated(None, -330.0, ""),
    }
    path.write_text("name\na\n")
    with pytest.raises(ValueError, match="a column called case"):
        read_stated(path)


def test_areas_of_masks_hold_within_one_per_cent_and_a_wrong_one_is_found() -> None:
    area = BODY.muscle_area_cm2
    cases = [case(BODY, ring(BODY, 1)), case(BODY, None)]
    (check,), left_out = check_areas(cases, {NAME: Stated(area)}, PreprocessSpec())
    assert check.holds
    assert check.mask_percent == pytest.approx(0, abs=0.6)
    assert left_out == ["p1: nobody drew on it"]
    (wrong,), _ = check_areas(cases, {NAME: Stated(area * 1.02)}, PreprocessSpec())
    assert not wrong.holds
    lines = area_lines([check, wrong, AreaCheck("c", 100.0, 100.4, 98.9)])
    assert lines[-1] == "1 of 3 within 1 %."
