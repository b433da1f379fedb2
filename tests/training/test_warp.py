from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.preprocess import PreprocessSpec, compartment_fractions, network_image, prepare
from tests.phantoms import TorsoPhantom
from training.augment import Augmentation
from training.warp import Warp, draw_warp, warped_fractions, warped_image

SPEC = PreprocessSpec()
PHANTOM = TorsoPhantom(shape=(1, 300, 400), pixel_mm=0.9)
PREPARED = prepare(PHANTOM.volume(), 0, SPEC)
STILL = Augmentation(
    rotation_deg=0.0, zoom=0.0, stretch=0.0, shear=0.0, shift_mm=0.0, flip_chance=0.0,
    elastic_chance=0.0,
)  # fmt: skip


def test_a_warp_of_nothing_gives_what_the_pipeline_gives() -> None:
    warp = draw_warp(PREPARED.grid, STILL, np.random.default_rng(0))
    places = warp.places(SPEC, PREPARED.native_hu.shape)
    image = warped_image(PREPARED.native_hu, places, SPEC)
    assert np.abs(image - PREPARED.image).max() < 1e-3
    compartments = PHANTOM.compartments[0]
    plain = compartment_fractions(compartments, PREPARED.grid, SPEC)
    # A sample that lies on the edge between two pixels may fall to either.
    assert np.abs(warped_fractions(compartments, places, SPEC) - plain).mean() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_turned_and_mirrored_it_is_the_image_of_the_changed_grid(seed: int) -> None:
    drawn = draw_warp(
        PREPARED.grid, replace(Augmentation(), elastic_chance=0.0), np.random.default_rng(seed)
    )
    places = drawn.places(SPEC, PREPARED.native_hu.shape)
    plain = network_image(PREPARED.native_hu, drawn.grid, SPEC)
    difference = np.abs(warped_image(PREPARED.native_hu, places, SPEC) - plain)
    assert np.percentile(difference, 99) < 1e-3
    assert np.abs(plain - PREPARED.image).mean() > 0.01


def test_a_bent_plane_is_read_where_its_nodes_say() -> None:
    spec = replace(SPEC, oversampling=1)
    always = replace(Augmentation(), elastic_chance=1.0, elastic_mm=4.0)
    warp = draw_warp(PREPARED.grid, always, np.random.default_rng(1))
    assert warp.bend_mm is not None
    assert warp.bend_mm.std(axis=(1, 2)) == pytest.approx(4.0, rel=1e-3)
    # The places read off an image that says where they are.
    shape = (300, 400)
    grid = warp.places(spec, shape)[0].numpy()
    found = np.stack([(grid[..., 1] + 1) / 2 * (shape[0] - 1), (grid[..., 0] + 1) / 2 * 399])
    cells = np.indices(PREPARED.grid.shape).astype(float)
    at_node = [cells[axis] * 20 / PREPARED.grid.shape[axis] + 2 for axis in range(2)]
    bend = [ndimage.map_coordinates(field, at_node, order=1) for field in warp.bend_mm]
    plane = np.einsum("ij,jra->ira", warp.grid.to_plane[:2], [*cells, np.ones(cells.shape[1:])])
    wanted = np.einsum(
        "ij,jra->ira", warp.grid.plane_to_native[:2], [*(plane + bend), np.ones(cells.shape[1:])]
    )
    assert np.abs(found - wanted).max() < 0.01
    assert not np.allclose(bend, 0, atol=1.0)


def test_beyond_the_image_there_is_air() -> None:
    grid = replace(PREPARED.grid, plane_to_native=PREPARED.grid.plane_to_native + [[0, 0, 1e4]] * 3)
    warp = Warp(grid, None)
    places = warp.places(SPEC, PREPARED.native_hu.shape)
    assert warped_image(PREPARED.native_hu, places, SPEC).max() == 0.0
