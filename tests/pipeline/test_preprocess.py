from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from pipeline.errors import ModelError
from pipeline.preprocess import (
    HUWindow,
    PreprocessSpec,
    _block_mean,
    _block_share,
    _opened,
    _row_ends,
    compartment_fractions,
    prepare,
    slab,
    to_native,
)
from pipeline.tissues import Compartment
from pipeline.types import Acquisition, CTVolume
from tests.phantoms import TorsoPhantom

SPEC = PreprocessSpec()
FINE = TorsoPhantom(shape=(3, 300, 400), pixel_mm=0.9)


def reoriented(volume: CTVolume, flips: tuple[int, ...], turns: int) -> CTVolume:
    """Store the same body with flipped and turned rows and columns."""
    hu, affine = volume.hu, volume.affine.copy()
    for axis in flips:
        hu = np.flip(hu, axis)
        affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
        affine[:3, axis] *= -1
    for _ in range(turns):
        hu = np.swapaxes(hu, 1, 2)[:, ::-1]
        rows = affine[:3, 2].copy()
        affine[:3, 2] = affine[:3, 1]
        affine[:3, 1] = -rows
        affine[:3, 3] += rows * (hu.shape[1] - 1)
    return replace(volume, hu=np.ascontiguousarray(hu), affine=affine)


@given(hu=st.lists(st.floats(-3000, 4000), min_size=2, max_size=20))
def test_window_stays_within_zero_and_one_and_keeps_order(hu: list[float]) -> None:
    scaled = HUWindow().scale(np.sort(np.array(hu, dtype=np.float32)))
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert np.all(np.diff(scaled) >= 0)


def test_window_is_that_of_the_paper() -> None:
    scaled = HUWindow().scale(np.array([-175.0, 37.5, 250.0]))
    assert scaled.tolist() == pytest.approx([0, 0.5, 1])


def test_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        HUWindow(100, 100)


@pytest.mark.parametrize("flips", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("turns", [0, 1, 3])
def test_input_does_not_depend_on_how_the_slice_was_stored(
    flips: tuple[int, ...], turns: int
) -> None:
    # An asymmetric body, so that a mirrored result would show.
    hu = FINE.hu.copy()
    hu[1, 60:90, 80:110] = 200
    volume = replace(FINE.volume(), hu=hu)
    expected = prepare(volume, 1, SPEC)
    found = prepare(reoriented(volume, flips, turns), 1, SPEC)
    assert found.image.shape == expected.image.shape
    assert np.abs(found.image - expected.image).max() < 2e-3


def test_first_axis_runs_to_the_right_and_the_second_to_the_front() -> None:
    hu = FINE.hu.copy()
    hu[1, 100:130, 60:90] = 1000  # rows from anterior, columns from the patient's right
    marked = prepare(replace(FINE.volume(), hu=hu), 1, SPEC).image[0]
    plain = prepare(FINE.volume(), 1, SPEC).image[0]
    right, front = np.argwhere(marked - plain > 0.3).mean(axis=0) / plain.shape
    assert right > 0.6
    assert front > 0.5


def test_grid_covers_the_body_with_sides_the_network_takes() -> None:
    prepared = prepare(FINE.volume(), 1, SPEC)
    assert all(side % 32 == 0 and side >= 192 for side in prepared.grid.shape)
    body_mm = 2 * np.array(FINE.outer_mm)
    covered_mm = np.array(prepared.grid.shape) * 1.5
    assert np.all(covered_mm >= body_mm + 2 * SPEC.margin_mm - 1)
    assert prepared.image[0, [0, -1]].max() == 0


def test_table_does_not_widen_the_grid() -> None:
    shape = (3, 400, 500)
    phantom = TorsoPhantom(shape=shape, pixel_mm=0.9, outer_mm=(130.0, 100.0))
    hu = phantom.hu.copy()
    hu[:, 330:336, 20:480] = 0
    assert prepare(replace(phantom.volume(), hu=hu), 1, SPEC).grid.shape == (192, 192)


def test_slice_without_a_body_is_covered_whole() -> None:
    volume = replace(FINE.volume(), hu=np.full(FINE.shape, -1000, dtype=np.int16))
    assert np.all(np.array(prepare(volume, 1, SPEC).grid.shape) * 1.5 >= [360, 270])


@pytest.mark.parametrize(
    ("shape", "pixel_mm", "tolerance"),
    [((1, 512, 512), 0.7, 0.0014), ((1, 400, 400), 0.98, 0.0026), ((1, 256, 256), 1.5, 0.0055)],
)
def test_area_fractions_keep_the_area(
    shape: tuple[int, int, int], pixel_mm: float, tolerance: float
) -> None:
    phantom = TorsoPhantom(shape=shape, pixel_mm=pixel_mm)
    grid = prepare(phantom.volume(), 0, SPEC).grid
    fractions = compartment_fractions(phantom.compartments[0], grid, SPEC)
    area_cm2 = fractions[Compartment.MUSCLE].sum() * 1.5**2 / 100
    assert area_cm2 == pytest.approx(phantom.muscle_area_cm2, rel=2 * tolerance)


def test_area_fractions_sum_to_one() -> None:
    grid = prepare(FINE.volume(), 1, SPEC).grid
    fractions = compartment_fractions(FINE.compartments[1], grid, SPEC)
    assert np.allclose(fractions.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("tilt_deg", [0.0, 18.0])
@pytest.mark.parametrize("pixel_mm", [0.7, 0.98, (0.8, 1.1)])
def test_mask_survives_the_way_to_the_grid_and_back(
    tilt_deg: float, pixel_mm: float | tuple[float, float]
) -> None:
    phantom = TorsoPhantom(shape=(1, 512, 512), pixel_mm=pixel_mm, tilt_deg=tilt_deg)
    grid = prepare(phantom.volume(), 0, SPEC).grid
    fractions = compartment_fractions(phantom.compartments[0], grid, SPEC)
    back = to_native(fractions, grid, (512, 512)).argmax(axis=0) == Compartment.MUSCLE
    mask = phantom.muscle_mask()[0]
    assert back.sum() == pytest.approx(mask.sum(), rel=0.005)
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.99


def test_outside_of_the_grid_is_other() -> None:
    phantom = TorsoPhantom(shape=(1, 512, 512), pixel_mm=0.98, outer_mm=(120.0, 90.0))
    grid = prepare(phantom.volume(), 0, SPEC).grid
    muscle = np.zeros((len(Compartment), *grid.shape), dtype=np.float32)
    muscle[Compartment.MUSCLE] = 1
    back = to_native(muscle, grid, (512, 512))
    assert back[:, 0, 0].tolist() == [1, 0, 0, 0, 0]
    assert back[:, 256, 256].tolist() == [0, 1, 0, 0, 0]


def test_thin_slices_are_averaged_by_their_share_of_the_slab() -> None:
    hu = np.zeros((7, 4, 4), dtype=np.int16)
    hu[:] = np.array([0, 0, 100, 200, 400, 0, 0], dtype=np.int16)[:, None, None]
    thin = CTVolume(
        hu,
        np.diag([2.0, 1.0, 1.0, 1.0]),
        FINE.volume().sources[:1] * 7,
        "1",
        Acquisition(slice_thickness_mm=2.0),
    )
    # 5 mm round a slice of 2 mm: the slice whole, its neighbours with 1.5 mm each.
    assert slab(thin, 3, SPEC)[0, 0] == round((2 * 200 + 1.5 * 100 + 1.5 * 400) / 5)


def test_thick_slices_are_taken_as_they_are() -> None:
    volume = FINE.volume()
    assert np.array_equal(slab(volume, 1, SPEC), volume.hu[1])


def test_slab_at_the_end_of_the_volume_uses_what_is_there() -> None:
    volume = TorsoPhantom(shape=(4, 64, 64), pixel_mm=6.0, slice_mm=1.0).volume()
    assert np.array_equal(slab(volume, 0, SPEC), volume.hu[0])


def test_spec_survives_the_manifest() -> None:
    spec = PreprocessSpec(HUWindow(-200, 300), spacing_mm=(2.0, 2.0), slab_mm=4.0)
    assert PreprocessSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"orientation": "LPS"},
        {"window": {"lower_hu": 5, "upper_hu": 5}},
        {"window": {"low": 5}},
        {"spacing_mm": [1.5, 1.5, 2.0]},
        {"spacing_mm": [0, 0]},
        {"oversampling": 0},
    ],
)
def test_spec_that_the_code_does_not_implement_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        PreprocessSpec.from_dict(SPEC.to_dict() | changes)


def test_spec_that_lacks_a_field_is_refused() -> None:
    values = SPEC.to_dict()
    del values["slab_mm"]
    with pytest.raises(ModelError, match="slab_mm"):
        PreprocessSpec.from_dict(values)


# From eight values on NumPy reduces in another order.
@pytest.mark.parametrize("factor", [1, 2, 3, 5, 7, 8, 9])
def test_fast_means_of_blocks_are_bit_for_bit_those_of_numpy(factor: int) -> None:
    generator = np.random.default_rng(factor)
    fine = generator.normal(0.0, 400.0, (32 * factor, 48 * factor)).astype(np.float32)
    blocks = fine.reshape(32, factor, 48, factor)
    assert np.array_equal(_block_mean(fine, factor), blocks.mean(axis=(1, 3), dtype=np.float32))
    share = (blocks > 50).mean(axis=(1, 3), dtype=np.float32)
    assert np.array_equal(_block_share(fine > 50, factor), share)
    assert _block_share(fine > 50, factor).dtype == np.float32


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_fast_opening_and_ends_of_rows_are_those_of_the_plain_way(mask: np.ndarray) -> None:
    assert np.array_equal(_opened(mask), ndimage.binary_opening(mask, iterations=2))
    rows, columns = np.nonzero(mask)
    ends = _row_ends(mask)
    for a, b in ((-0.7, 0.001), (0.3, -0.9), (0.0, 1.0), (0.123456789, 0.987654321)):
        plain, fast = a * rows + b * columns, a * ends[0] + b * ends[1]
        assert len(plain) == 0 or (plain.min(), plain.max()) == (fast.min(), fast.max())
