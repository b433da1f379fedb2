import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipeline.objects.contours import outlines


def signed_area(corners: NDArray[np.int64]) -> float:
    rows, columns = corners.astype(float).T
    return float(np.sum(columns * np.roll(rows, -1) - rows * np.roll(columns, -1)) / 2)


@settings(max_examples=60, deadline=None)
@given(mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_areas_of_outlines_sum_up_to_the_mask(mask: NDArray[np.bool_]) -> None:
    assert sum(signed_area(one) for one in outlines(mask)) == mask.sum()


@settings(max_examples=60, deadline=None)
@given(mask=hnp.arrays(np.bool_, st.just((6, 7))))
def test_every_outline_turns_at_each_of_its_corners(mask: NDArray[np.bool_]) -> None:
    for corners in outlines(mask):
        steps = np.roll(corners, -1, axis=0) - corners
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert ((steps[:, 0] == 0) != (np.roll(steps[:, 0], 1) == 0)).all()


def test_a_hole_is_an_outline_of_its_own() -> None:
    mask = np.ones((5, 5), dtype=np.bool_)
    mask[2, 2] = False
    assert sorted(signed_area(one) for one in outlines(mask)) == [-1.0, 25.0]


def test_pixels_that_touch_at_a_corner_are_two_outlines() -> None:
    found = outlines(np.array([[True, False], [False, True]]))
    assert [signed_area(one) for one in found] == [1.0, 1.0]


def test_an_empty_mask_has_no_outline() -> None:
    assert outlines(np.zeros((3, 3), dtype=np.bool_)) == []
