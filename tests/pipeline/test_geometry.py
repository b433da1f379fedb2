import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import GeometryError, MixedSeriesError, NotAxialError
from pipeline.geometry import (
    SlicePlane,
    check_axial,
    check_same_grid,
    heights_mm,
    lean_deg,
    longest_regular_run,
    slice_plane,
    stack_affine,
    tilt_deg,
)
from tests.phantoms import AXIAL, TorsoPhantom


def planes_of(phantom: TorsoPhantom) -> list[SlicePlane]:
    return [
        slice_plane(
            dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
        )
        for dataset in phantom.datasets()
    ]


def axial_planes(heights: list[float]) -> list[SlicePlane]:
    return [slice_plane((0, 0, height), AXIAL, (1, 1)) for height in heights]


@given(
    spacing=st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0)),
    slice_mm=st.floats(0.5, 10.0),
    tilt=st.floats(-24.0, 24.0),
    index=st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(0, 7)),
)
def test_index_to_millimetres_and_back_is_identity(
    spacing: tuple[float, float], slice_mm: float, tilt: float, index: tuple[int, int, int]
) -> None:
    phantom = TorsoPhantom((5, 8, 8), spacing, slice_mm, tilt_deg=tilt)
    affine = stack_affine(planes_of(phantom), slice_mm)
    assert np.allclose(affine, phantom.affine, atol=1e-5)
    place = affine @ np.array([*index, 1.0])
    assert np.allclose(np.linalg.inv(affine) @ place, [*index, 1.0], atol=1e-6)


@given(tilt=st.floats(-24.0, 24.0), slice_mm=st.floats(0.5, 10.0))
def test_affine_of_a_tilted_stack_is_that_of_the_phantom(tilt: float, slice_mm: float) -> None:
    phantom = TorsoPhantom((5, 8, 8), 0.8, slice_mm, tilt_deg=tilt)
    assert np.allclose(stack_affine(planes_of(phantom), None), phantom.affine, atol=1e-5)


def test_tilt_is_measured_from_positions() -> None:
    assert tilt_deg(TorsoPhantom(tilt_deg=18.5).affine) == pytest.approx(18.5)
    assert tilt_deg(TorsoPhantom().affine) == pytest.approx(0.0)


def test_an_oblique_stack_leans_but_is_not_tilted() -> None:
    angle = math.radians(10.0)
    oblique = TorsoPhantom(orientation=(1, 0, 0, 0, math.cos(angle), -math.sin(angle)))
    assert lean_deg(oblique.affine) == pytest.approx(10.0)
    assert tilt_deg(oblique.affine) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0.87, -0.5)]
)
def test_coronal_sagittal_and_steep_slices_are_refused(orientation: tuple[float, ...]) -> None:
    length = np.linalg.norm(orientation[3:])
    cosines = (*orientation[:3], *(value / length for value in orientation[3:]))
    with pytest.raises(NotAxialError, match="degrees"):
        check_axial(slice_plane((0, 0, 0), cosines, (1, 1)))


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0), (-1, 0, 0, 0, -1, 0)],
)
def test_axial_slices_are_accepted_however_they_are_turned(orientation: tuple[float, ...]) -> None:
    check_axial(slice_plane((0, 0, 0), orientation, (1, 1)))


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [
        ((1, 0, 0, 1, 0, 0), (1, 1)),
        ((2, 0, 0, 0, 1, 0), (1, 1)),
        ((0, 0, 0, 0, 0, 0), (1, 1)),
        (AXIAL, (0, 1)),
        (AXIAL, (-1, 1)),
        (AXIAL, (math.nan, 1)),
        ((math.nan, 0, 0, 0, 1, 0), (1, 1)),
    ],
)
def test_numbers_that_place_no_plane_are_refused(
    orientation: tuple[float, ...], spacing: tuple[float, float]
) -> None:
    with pytest.raises(GeometryError):
        slice_plane((0, 0, 0), orientation, spacing)


def test_heights_rise_to_the_head_for_every_orientation() -> None:
    for orientation in (AXIAL, (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0)):
        planes = [slice_plane((0, 0, z), orientation, (1, 1)) for z in (0.0, 5.0)]
        assert np.diff(heights_mm(planes)) == pytest.approx([5.0])


def test_a_regular_run_ends_at_a_gap() -> None:
    assert longest_regular_run([0, 5, 10, 20, 25, 30, 35]) == slice(3, 7)
    assert longest_regular_run([0, 5, 10, 15]) == slice(0, 4)
    assert longest_regular_run([0.0]) == slice(0, 1)


@given(st.floats(0.051, 0.5))
def test_one_distance_more_than_five_percent_off_breaks_the_run(deviation: float) -> None:
    spacing_mm = 5.0
    run = longest_regular_run([0, 5, 10, 15, 20 + spacing_mm * deviation])
    assert run == slice(0, 4)


@given(st.lists(st.floats(-0.01, 0.01), min_size=8, max_size=8))
def test_rounded_positions_stay_one_run(errors: list[float]) -> None:
    ascending = [5.0 * index + 5.0 * error for index, error in enumerate(errors)]
    assert longest_regular_run(ascending) == slice(0, 8)


def test_slices_that_jump_sideways_are_refused() -> None:
    planes = axial_planes([0, 5, 10])
    planes[1] = slice_plane((3, 0, 5), AXIAL, (1, 1))
    with pytest.raises(GeometryError, match=r"3\.00 mm astray"):
        stack_affine(planes, 5.0)


def test_a_single_slice_takes_its_thickness_for_the_distance() -> None:
    affine = stack_affine(axial_planes([7.0]), 2.5)
    assert affine[:3, 0] == pytest.approx([0, 0, 2.5])


def test_planes_with_other_spacing_or_direction_do_not_mix() -> None:
    first = slice_plane((0, 0, 0), AXIAL, (1, 1))
    with pytest.raises(MixedSeriesError, match="Pixel Spacing"):
        check_same_grid([first, slice_plane((0, 0, 5), AXIAL, (1, 1.1))])
    with pytest.raises(MixedSeriesError, match="orientation"):
        check_same_grid([first, slice_plane((0, 0, 5), (1, 0, 0, 0, -1, 0), (1, 1))])
