"""Areas and attenuation on phantoms with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.composition import area_cm2, measure
from pipeline.types import AnatomicLevel, TissueMask

LEVEL = AnatomicLevel("L3", slice_index=7, confidence=1.0)


def labelled_square(label: int, side: int = 10) -> TissueMask:
    labels = np.zeros((1, 32, 32), np.uint8)
    labels[0, 4 : 4 + side, 4 : 4 + side] = label
    return TissueMask(labels, first_slice_index=7)


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    pixel_area_mm2=st.floats(0.1, 4.0),
)
def test_area_is_pixels_times_pixel_area(rows: int, columns: int, pixel_area_mm2: float) -> None:
    mask = np.zeros((64, 64), bool)
    mask[:rows, :columns] = True
    assert area_cm2(mask, pixel_area_mm2) == pytest.approx(rows * columns * pixel_area_mm2 / 100)


def test_muscle_is_measured_on_the_slice_of_the_level() -> None:
    hu = np.full((32, 32), -1000, np.int16)
    hu[4:14, 4:14] = 50
    hu[4:14, 4:9] = 30
    composition = measure(labelled_square(1), hu, LEVEL, pixel_area_mm2=0.25)
    muscle = composition.of("skeletal_muscle")
    assert muscle.area_cm2 == pytest.approx(0.25)
    assert muscle.mean_hu == pytest.approx(40.0)
    assert muscle.sd_hu == pytest.approx(10.0)


def test_absent_tissue_has_no_attenuation() -> None:
    composition = measure(labelled_square(1), np.zeros((32, 32), np.int16), LEVEL, 1.0)
    assert composition.of("visceral_fat").area_cm2 == 0.0
    assert composition.of("visceral_fat").mean_hu is None


def test_index_is_area_over_height_squared() -> None:
    composition = measure(labelled_square(1), np.zeros((32, 32), np.int16), LEVEL, 100.0, 2.0)
    assert composition.skeletal_muscle_index_cm2_m2 == pytest.approx(25.0)


def test_no_index_without_height() -> None:
    composition = measure(labelled_square(1), np.zeros((32, 32), np.int16), LEVEL, 1.0)
    assert composition.skeletal_muscle_index_cm2_m2 is None


def test_unknown_tissue_is_a_key_error() -> None:
    composition = measure(labelled_square(1), np.zeros((32, 32), np.int16), LEVEL, 1.0)
    with pytest.raises(KeyError):
        composition.of("bone_marrow")
