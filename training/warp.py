"""Random deformations of the plane of a slice: turned, stretched, shifted, mirrored, bent.

Without one, samples are made by ``pipeline.preprocess`` itself. With one, pixels are read here,
several times as fast as by a composed transform; cells and window are the pipeline's.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pipeline.preprocess import (
    AIR_HU,
    Grid,
    PreprocessSpec,
    fractions_of_samples,
    image_of_samples,
)
from training.augment import Augmentation
from training.fields import hats, read_at, reading_grid

_NODES: Final = 24
_STEPS: Final = 20
"""Spacings of nodes across the grid; two more nodes lie beyond either end."""


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Where the cells of a grid read.

    Parameters
    ----------
    grid : Grid
        With the affine change worked in.
    bend_mm : NDArray[np.float32] or None, shape (2, nodes, nodes)
        Shift along R and A before it, at nodes that lie evenly over the grid.
    """

    grid: Grid
    bend_mm: NDArray[np.float32] | None

    def places(self, spec: PreprocessSpec, native_shape: tuple[int, ...]) -> Tensor:
        """Where each sample of each cell is read in a stored slice of this shape.

        Returns
        -------
        Tensor, shape (1, R * oversampling, A * oversampling, 2)
            For ``training.fields.read_at``.
        """
        n = spec.oversampling
        sides = [(np.arange(size * n) + 0.5) / n - 0.5 for size in self.grid.shape]
        to_plane, to_native = self.grid.to_plane, self.grid.plane_to_native.astype(np.float32)
        right = (to_plane[0, 0] * sides[0] + to_plane[0, 2]).astype(np.float32)[:, None]
        front = (to_plane[1, 1] * sides[1] + to_plane[1, 2]).astype(np.float32)[None, :]
        if self.bend_mm is not None:
            ends = zip(sides, self.grid.shape, strict=True)
            rows, columns = (
                hats(side * _STEPS / size + 2, _NODES).astype(np.float32) for side, size in ends
            )
            right = right + rows @ self.bend_mm[0] @ columns.T
            front = front + rows @ self.bend_mm[1] @ columns.T
        first, second = (line[0] * right + (line[1] * front + line[2]) for line in to_native[:2])
        return reading_grid(first, second, native_shape)


def draw_warp(grid: Grid, augmentation: Augmentation, generator: np.random.Generator) -> Warp:
    """Draw a deformation of the plane."""
    a = augmentation
    angle = np.deg2rad(generator.normal(0.0, a.rotation_deg))
    zoom = np.exp(generator.normal(0.0, a.zoom))
    stretch = np.exp(generator.normal(0.0, a.stretch))
    shear = generator.normal(0.0, a.shear)
    flip = -1.0 if generator.random() < a.flip_chance else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1.0, shear], [0.0, 1.0]])
    linear = linear @ np.diag([flip * stretch / zoom, 1 / (stretch * zoom)])
    middle = (grid.to_plane @ [(grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2, 1.0])[:2]
    shift = generator.uniform(-a.shift_mm, a.shift_mm, 2)
    change = np.eye(3)
    change[:2, :2] = linear
    change[:2, 2] = middle + shift - linear @ middle
    bend = _bend(a.elastic_mm, generator) if generator.random() < a.elastic_chance else None
    changed = Grid(grid.shape, grid.to_plane, grid.plane_to_native @ change)
    return Warp(changed, bend)


def warped_image(
    native_hu: NDArray[Any], places: Tensor, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Network image of a slice that is read at ``places``; air where there is no image."""
    above_air = np.asarray(native_hu, np.float32) - np.float32(AIR_HU)
    return image_of_samples(read_at(above_air, places) + np.float32(AIR_HU), spec)


def warped_fractions(
    compartments: NDArray[np.uint8], places: Tensor, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Shares of compartments in the cells of a slice that is read at ``places``."""
    fine = read_at(compartments, places, nearest=True).astype(np.uint8)
    return fractions_of_samples(fine, spec)


def _bend(size_mm: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Smooth random shifts of this standard deviation."""
    fields = generator.standard_normal((2, _NODES, _NODES))
    smooth = [ndimage.gaussian_filter(f, generator.uniform(1.5, 3.0)) for f in fields]
    return np.stack([f / f.std() * size_mm for f in smooth]).astype(np.float32)
