"""Random changes of a labelled body: fat layer, muscle wasting, fatty muscle.

A handful of patients shows a handful of habitus. These changes move the drawn labels together with
the image, so that the answer stays known.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.fields import box_around, filled, read_at, reading_grid, spread

_MUSCLE: Final = 1
_INTERMUSCULAR_FAT: Final = 2
_SUBCUTANEOUS_FAT: Final = 3
_VISCERAL_FAT: Final = 4
_OUTER_LABELS: Final = (0, _SUBCUTANEOUS_FAT, 7)
_FAT_LABELS: Final = (_SUBCUTANEOUS_FAT, _VISCERAL_FAT)
_REACH: Final = 8
"""Pixels beyond which neither edges that are softened nor outlines that are closed matter."""
_COARSE: Final = 16
"""Nodes per axis of the smooth random fields; a trunk is some ten muscles wide."""


@dataclass(frozen=True, slots=True)
class Habitus:
    """How often and how far a body is changed.

    Parameters
    ----------
    layer_chance, layer_factor : float
        The fat under the skin becomes up to this many times thinner or thicker.
    wasting_chance, wasting_mm : float
        Muscle next to fat loses up to this depth to the fat.
    infiltration_chance, infiltration_hu : float
        Muscle becomes less dense by up to this much, unevenly.
    """

    layer_chance: float = 0.4
    layer_factor: float = 2.0
    wasting_chance: float = 0.35
    wasting_mm: float = 5.0
    infiltration_chance: float = 0.35
    infiltration_hu: float = 45.0


def change_habitus(
    hu: NDArray[Any],
    labels: NDArray[np.uint8],
    pixel_mm: float,
    habitus: Habitus,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Change the body of one slice.

    Parameters
    ----------
    hu : NDArray, shape (rows, columns)
    labels : NDArray[np.uint8], shape (rows, columns)
        As in ``training.data``.
    pixel_mm : float
    habitus : Habitus
    generator : numpy.random.Generator

    Returns
    -------
    tuple
        HU and labels.
    """
    changed = np.asarray(hu, np.float32)
    if generator.random() < habitus.infiltration_chance:
        changed = infiltrate(changed, labels, habitus.infiltration_hu, generator)
    if generator.random() < habitus.wasting_chance:
        changed, labels = waste(changed, labels, habitus.wasting_mm / pixel_mm, generator)
    if generator.random() < habitus.layer_chance:
        span = np.log(habitus.layer_factor)
        factor = float(np.exp(generator.uniform(-span, span)))
        changed, labels = stretch_fat_layer(changed, labels, factor)
    return changed, labels


def stretch_fat_layer(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], factor: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make the layer outside of the muscles ``factor`` times as thick.

    Each pixel outside reads from where it would lie on the way out from the trunk's wall had the
    layer kept its thickness.
    """
    inside = filled(~np.isin(labels, _OUTER_LABELS))
    box = box_around(inside, _REACH)
    inside[box] = ndimage.binary_closing(
        ndimage.binary_opening(inside[box], iterations=2), iterations=4
    )
    if not inside.any():
        return hu, labels
    distance = ndimage.distance_transform_edt(~inside).astype(np.float32)
    away = np.gradient(ndimage.gaussian_filter(distance, 3.0))
    # The wall runs between the last pixel inside and the first one outside.
    outwards = np.maximum(distance - 0.5, 0.0) * np.float32(1 / factor - 1)
    outwards /= np.maximum(np.hypot(*away), 1e-6)
    # Beyond the rim, what lies on it.
    rows, columns = (
        np.clip(at + step * outwards, 0, at.size - 1).astype(np.float32)
        for at, step in zip(np.ogrid[: hu.shape[0], : hu.shape[1]], away, strict=True)
    )
    grid = reading_grid(rows, columns, hu.shape)
    return read_at(hu, grid), read_at(labels, grid, nearest=True).astype(np.uint8)


def waste(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint8],
    depth_pixels: float,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Let fat take the place of muscle that lies next to it, up to ``depth_pixels`` deep."""
    muscle = np.isin(labels, (_MUSCLE, _INTERMUSCULAR_FAT))
    fat = hu[np.isin(labels, _FAT_LABELS)]
    # Of what lies around the muscle nothing else changes, or counts.
    box = box_around(muscle, _REACH)
    muscle, around = muscle[box], labels[box]
    distance, nearest = ndimage.distance_transform_edt(muscle, return_indices=True)
    neighbour = around[tuple(nearest)]
    share = _smooth_field(hu.shape, generator)[box]
    depth = generator.uniform(0.2, 1.0) * depth_pixels * np.clip(0.5 + 0.5 * share, 0.0, 1.0)
    lost = muscle & (distance <= depth) & np.isin(neighbour, _FAT_LABELS)
    if not lost.any() or fat.size == 0:
        return hu, labels
    grain = ndimage.gaussian_filter(generator.standard_normal(lost.shape, dtype=np.float32), 0.7)
    filling = np.float32(np.median(fat)) + grain * (14 / grain.std())
    part = ndimage.gaussian_filter(lost.astype(np.float32), 0.6)
    mixed, changed = hu.copy(), labels.copy()
    mixed[box] = hu[box] * (1 - part) + filling * part
    changed[box] = np.where(lost, neighbour, around)
    return mixed, changed


def infiltrate(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint8],
    largest_hu: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Lower the density of muscle, here more, there less."""
    muscle = labels == _MUSCLE
    box = box_around(muscle, _REACH)
    field = np.clip(0.5 + 0.5 * _smooth_field(hu.shape, generator)[box], 0.0, 1.5)
    share = ndimage.gaussian_filter(muscle[box].astype(np.float32), 0.7)
    lowered = hu.copy()
    lowered[box] -= np.float32(generator.uniform(0.0, largest_hu)) * field * share
    return lowered


def _smooth_field(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Random field of mean 0 and standard deviation 1 that varies over centimetres."""
    field = spread(generator.standard_normal((_COARSE, _COARSE)), shape)
    return np.asarray((field - field.mean()) / field.std(), np.float32)
