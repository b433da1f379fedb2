import numpy as np
import pytest

from pipeline.level.projections import (
    AIR_HU,
    COLUMNS,
    FRONT_COLUMN_MM,
    ROW_MM,
    SIDE_COLUMN_MM,
    SpineImages,
    project,
)
from tests.spine_phantom import BODY_HU, COUCH_MM, DISC_HU, SpinePhantom, reoriented


def _side_column(phantom: SpinePhantom, views: SpineImages, y_mm: float) -> int:
    """Column of the side view at ``y_mm`` behind the middle of the body."""
    from_first_row = y_mm + (phantom.matrix - 1) / 2 * phantom.pixel_mm
    return round((from_first_row - views.edges_mm[0]) / SIDE_COLUMN_MM)


def _disc_heights_mm(phantom: SpinePhantom, views: SpineImages) -> list[float]:
    """Heights where the side view shows a disc, as middles of runs of rows."""
    column = _side_column(phantom, views, 50.0)
    profile = views.side[:, column - 3 : column + 4].mean(axis=1)
    dark = np.flatnonzero(profile < (DISC_HU + BODY_HU) / 2)
    runs = np.split(dark, np.flatnonzero(np.diff(dark) > 1) + 1)
    return [float(run.mean() * ROW_MM) for run in runs]


def test_side_view_shows_each_disc_at_its_height() -> None:
    phantom = SpinePhantom(slices=120, slice_mm=2.0)
    discs = np.add(phantom.centres_mm[1:], phantom.centres_mm[:-1]) / 2
    seen = np.array(_disc_heights_mm(phantom, project(phantom.volume())))
    for disc in discs:
        assert np.abs(seen - disc).min() <= phantom.slice_mm


@pytest.mark.parametrize("slice_mm", [0.8, 2.0, 5.0])
def test_rows_know_the_slices_they_come_from(slice_mm: float) -> None:
    phantom = SpinePhantom(slices=round(160 / slice_mm), slice_mm=slice_mm, matrix=80, pixel_mm=5.0)
    views = project(phantom.volume())
    assert views.side.shape == (len(views.slice_of_row), COLUMNS)
    heights = views.slice_of_row * slice_mm
    assert np.allclose(np.diff(heights), ROW_MM)
    assert heights[0] == pytest.approx((ROW_MM - slice_mm) / 2, abs=1.3)


@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_columns", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
def test_views_do_not_depend_on_how_the_slices_are_stored(
    flip_rows: bool, flip_columns: bool, transpose: bool
) -> None:
    volume = SpinePhantom(spine_left_mm=15.0).volume()
    expected = project(volume)
    views = project(reoriented(volume, flip_rows, flip_columns, transpose))
    # A flip changes which pixels are averaged into one: an edge may move by one coarse pixel.
    assert np.median(np.abs(views.side - expected.side)) < 1
    assert np.corrcoef(views.side.ravel(), expected.side.ravel())[0, 1] > 0.97
    assert np.corrcoef(views.front[0].ravel(), expected.front[0].ravel())[0, 1] > 0.97


def test_spine_stands_in_the_middle_of_the_front_view_wherever_it_lies() -> None:
    views = project(SpinePhantom(spine_left_mm=30.0).volume())
    across = views.front[0].mean(axis=0)
    brightest = np.flatnonzero(across > across.max() - 20).mean()
    assert brightest * FRONT_COLUMN_MM == pytest.approx(COLUMNS / 2 * FRONT_COLUMN_MM, abs=9)


def test_couch_is_removed() -> None:
    phantom = SpinePhantom(couch=True)
    views = project(phantom.volume())
    behind = _side_column(phantom, views, COUCH_MM + 3.0)
    assert (views.side[:, behind:] == AIR_HU).all()
    assert (views.side[:, _side_column(phantom, views, 80.0)] > AIR_HU).all()


@pytest.mark.parametrize("tilt_deg", [-18.0, 18.0])
def test_tilted_gantry_shows_the_spine_leaning_by_the_tilt(tilt_deg: float) -> None:
    views = project(SpinePhantom(tilt_deg=tilt_deg).volume())
    rows_mm = np.arange(len(views.spine_mm)) * ROW_MM
    slope = np.polyfit(rows_mm, views.spine_mm[:, 0], 1)[0]
    assert slope == pytest.approx(-np.tan(np.radians(tilt_deg)), abs=0.03)
