import numpy as np
import pytest
from scipy import ndimage

from training.fields import box_around, filled, read_at, reading_grid, spread

RANDOM = np.random.default_rng(0)


def test_a_spread_field_is_that_of_scipy() -> None:
    nodes = RANDOM.normal(size=(12, 16))
    plain = ndimage.zoom(nodes, (101 / 12, 122 / 16), order=1)
    assert np.allclose(spread(nodes, (101, 122)), plain, atol=1e-5)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.7, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(1, 9), (12, 12), (40, 31)])
def test_holes_are_filled_as_by_scipy(shape: tuple[int, int], share: float) -> None:
    mask = RANDOM.random(shape) < share
    assert np.array_equal(filled(mask), ndimage.binary_fill_holes(mask))


def test_a_box_holds_everything_and_its_margin() -> None:
    mask = np.zeros((40, 50), dtype=np.bool_)
    assert mask[box_around(mask, 3)].shape == (40, 50)
    mask[1, 20] = mask[10, 30] = True
    assert box_around(mask, 3) == (slice(0, 14), slice(17, 34))


@pytest.mark.parametrize(("nearest", "order"), [(False, 1), (True, 0)])
def test_an_image_is_read_as_by_scipy_and_is_zero_beyond_its_rim(nearest: bool, order: int) -> None:
    image = RANDOM.normal(size=(30, 41))
    rows, columns = RANDOM.uniform(0, [[[29]], [[40]]], (2, 9, 7)).astype(np.float32)
    rows[0, 0] = -3.0
    read = read_at(image, reading_grid(rows, columns, image.shape), nearest=nearest)
    plain = ndimage.map_coordinates(image, [rows, columns], order=order, cval=0.0)
    assert np.allclose(read, plain, atol=1e-4)
    assert read[0, 0] == 0.0
