"""Random changes of what lies inside the wall of the trunk: organs that touch it, fluid.

Where fat lies between organs and wall, HU alone tell muscle from organ; where a liver, a spleen or
a full bowel touches the wall, only its course does. Few drawn slices show that, and a network that
has not seen it takes the organ's rim for muscle.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.fields import box_around, spread

_MUSCLE: Final = 1
_VISCERAL_FAT: Final = 4
_ORGAN: Final = 6
_CAVITY: Final = (_VISCERAL_FAT, _ORGAN)
_REACH: Final = 8
"""Pixels beyond which edges that are softened do not matter."""
_COARSE: Final = 12
"""Nodes per axis of the field that makes outlines uneven."""


@dataclass(frozen=True, slots=True)
class Cavity:
    """How often and how the cavity is changed.

    Parameters
    ----------
    organ_chance : float
        A dense organ is laid against the wall, or two.
    organ_mm : tuple of float
        Least and largest half axis.
    organ_hu : tuple of float
        From unenhanced bowel to an enhanced spleen.
    alike_chance : float
        The organ has the density of this body's muscle, which hides the border.
    fluid_chance : float
        Fluid takes the place of the fat between the organs, as in ascites.
    fluid_hu : tuple of float
    """

    organ_chance: float = 0.35
    organ_mm: tuple[float, float] = (15.0, 75.0)
    organ_hu: tuple[float, float] = (20.0, 140.0)
    alike_chance: float = 0.4
    fluid_chance: float = 0.08
    fluid_hu: tuple[float, float] = (-5.0, 25.0)


def change_cavity(
    hu: NDArray[Any],
    labels: NDArray[np.uint8],
    pixel_mm: float,
    cavity: Cavity,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Change what lies inside the wall of one slice.

    Parameters
    ----------
    hu : NDArray, shape (rows, columns)
    labels : NDArray[np.uint8], shape (rows, columns)
        As in ``training.data``.
    pixel_mm : float
    cavity : Cavity
    generator : numpy.random.Generator

    Returns
    -------
    tuple
        HU and labels; those of muscle, bone and all outside of the wall stay, but for the HU of
        muscle's rim, which held some of the fat that is gone.
    """
    changed = np.asarray(hu, np.float32)
    if generator.random() < cavity.fluid_chance:
        changed, labels = flood(changed, labels, cavity.fluid_hu, generator)
    if generator.random() < cavity.organ_chance:
        for _ in range(int(generator.integers(1, 3))):
            changed, labels = lay_organ(changed, labels, pixel_mm, cavity, generator)
    return changed, labels


def flood(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint8],
    fluid_hu: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Put fluid in the place of visceral fat."""
    box = _wall(labels)
    fat = labels[box] == _VISCERAL_FAT
    return _fill(hu, labels, box, _Filling(fat, generator.uniform(*fluid_hu)), generator)


def lay_organ(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint8],
    pixel_mm: float,
    cavity: Cavity,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Lay one organ with an uneven outline against muscle."""
    box = _wall(labels)
    inside, muscle = np.isin(labels[box], _CAVITY), labels[box] == _MUSCLE
    beside = np.argwhere(inside & ndimage.binary_dilation(muscle, iterations=2))
    if beside.size == 0:
        return hu, labels
    middle = beside[generator.integers(len(beside))]
    half_axes = generator.uniform(*cavity.organ_mm, 2) / pixel_mm
    turn = generator.uniform(0.0, np.pi)
    rows, columns = (
        axis - at
        for axis, at in zip(np.ogrid[: inside.shape[0], : inside.shape[1]], middle, strict=True)
    )
    along = (np.cos(turn) * rows + np.sin(turn) * columns) / half_axes[0]
    across = (np.cos(turn) * columns - np.sin(turn) * rows) / half_axes[1]
    uneven = spread(generator.normal(0.0, 0.25, (_COARSE, _COARSE)), hu.shape)[box]
    if generator.random() < cavity.alike_chance:
        level_hu = float(np.median(hu[box][muscle])) + generator.normal(0.0, 8.0)
    else:
        level_hu = generator.uniform(*cavity.organ_hu)
    place = inside & (np.hypot(along, across) + uneven < 1.0)
    return _fill(hu, labels, box, _Filling(place, level_hu), generator)


@dataclass(frozen=True, slots=True, eq=False)
class _Filling:
    """Where in a box something comes to lie, and how dense it is."""

    place: NDArray[np.bool_]
    level_hu: float


def _wall(labels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Box around the cavity and the muscle about it; outside nothing changes, or counts."""
    return box_around(np.isin(labels, (_MUSCLE, *_CAVITY)), _REACH)


def _fill(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint8],
    box: tuple[slice, slice],
    filling: _Filling,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Fill a place with tissue of one density and a little grain, and call it organ."""
    before, kind, place = hu[box], labels[box], filling.place
    inside, muscle = np.isin(kind, _CAVITY), kind == _MUSCLE
    grain = ndimage.gaussian_filter(generator.standard_normal(place.shape, dtype=np.float32), 0.8)
    grain *= generator.uniform(3.0, 12.0) / grain.std()
    # Within the cavity the border is soft; towards the wall there is no gap that would betray it.
    share = ndimage.gaussian_filter(place.astype(np.float32), 0.6)
    whole = ndimage.gaussian_filter(inside.astype(np.float32), 0.6)
    part = np.where(inside, share / np.maximum(whole, 1e-3), 0.0)
    mixed = before * (1 - part) + (np.float32(filling.level_hu) + grain) * part
    if muscle.any():
        # The rim of muscle held some of the fat that is gone.
        muscle_hu = np.float32(np.median(before[muscle]))
        rim = muscle & (before < muscle_hu) & ndimage.binary_dilation(place, iterations=2)
        mixed = np.where(rim, muscle_hu + grain, mixed)
    changed, changed_labels = hu.copy(), labels.copy()
    changed[box] = mixed
    changed_labels[box] = np.where(place, _ORGAN, kind)
    return changed, changed_labels
