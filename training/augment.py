"""Random changes that make one labelled slice many, each a function of values and a generator."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.preprocess import AIR_HU
from training.cavity import Cavity, change_cavity
from training.fields import box_around, filled, spread
from training.habitus import Habitus, change_habitus

_BONE_LABEL: Final = 5
_ORGAN_LABEL: Final = 6
_MUSCLE_LABELS: Final = (1, 2)
_BACKGROUND_LABEL: Final = 0
_CHANGED_LABELS: Final = (*_MUSCLE_LABELS, _BONE_LABEL, _ORGAN_LABEL)
_REACH: Final = 4
"""Pixels beyond which the softening of edges changes nothing."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far samples may stray; every chance is drawn for each sample anew.

    Parameters
    ----------
    rotation_deg, zoom, stretch, shear : float
        Standard deviations; zoom, stretch and shear are relative.
    shift_mm : float
        Largest shift of the body within the grid.
    flip_chance : float
    elastic_chance, elastic_mm : float
        Smooth deformation of this standard deviation.
    contrast_chance : float
        Organs, muscle and bone are made denser or less dense, as contrast agents and age do.
    noise_chance, noise_hu : float
        Largest standard deviation of noise, which is correlated as in reconstructed images.
    blur_chance, blur_mm : float
        Largest standard deviation of a Gaussian, as soft kernels and coarse pixels have.
    sharpen_chance : float
    tone_chance : float
        Scale and shift of all HU.
    clear_chance : float
        Takes away everything outside of the body: table, blankets, arms.
    truncation_chance : float
        Cuts the body by a reconstruction circle.
    habitus : Habitus
        Changes of the body itself.
    cavity : Cavity
        Changes of what lies inside its wall.
    """

    rotation_deg: float = 6.0
    zoom: float = 0.12
    stretch: float = 0.06
    shear: float = 0.04
    shift_mm: float = 12.0
    flip_chance: float = 0.5
    elastic_chance: float = 0.4
    elastic_mm: float = 4.0
    contrast_chance: float = 0.6
    noise_chance: float = 0.5
    noise_hu: float = 35.0
    blur_chance: float = 0.35
    blur_mm: float = 1.4
    sharpen_chance: float = 0.2
    tone_chance: float = 0.4
    clear_chance: float = 0.3
    truncation_chance: float = 0.12
    habitus: Habitus = field(default_factory=Habitus)
    cavity: Cavity = field(default_factory=Cavity)


def change_hu(
    hu: NDArray[Any],
    labels: NDArray[np.uint8],
    pixel_mm: float,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Change the body, and what a scanner or a contrast agent would change, on the native grid.

    Parameters
    ----------
    hu : NDArray, shape (rows, columns)
    labels : NDArray[np.uint8], shape (rows, columns)
        As in ``training.data``.
    pixel_mm : float
    augmentation : Augmentation
    generator : numpy.random.Generator

    Returns
    -------
    tuple
        HU and labels; the latter follow the habitus and lose what truncation cut off.
    """
    changed, labels = change_habitus(hu, labels, pixel_mm, augmentation.habitus, generator)
    changed, labels = change_cavity(changed, labels, pixel_mm, augmentation.cavity, generator)
    if generator.random() < augmentation.contrast_chance:
        changed = _shift_contrast(changed, labels, generator)
    if generator.random() < augmentation.clear_chance:
        changed = np.where(filled(labels != _BACKGROUND_LABEL), changed, AIR_HU)
    if generator.random() < augmentation.blur_chance:
        blur_mm = generator.uniform(0.3, augmentation.blur_mm)
        changed = ndimage.gaussian_filter(changed, blur_mm / pixel_mm)
    elif generator.random() < augmentation.sharpen_chance:
        soft = ndimage.gaussian_filter(changed, 1.0)
        changed = changed + generator.uniform(0.2, 1.0) * (changed - soft)
    if generator.random() < augmentation.noise_chance:
        changed = changed + _noise(changed.shape, augmentation.noise_hu, generator)
    if generator.random() < augmentation.tone_chance:
        changed = changed * generator.normal(1.0, 0.06) + generator.normal(0.0, 8.0)
    if generator.random() < augmentation.truncation_chance:
        inside = _circle(labels, generator)
        changed = np.where(inside, changed, AIR_HU)
        labels = np.where(inside, labels, _BACKGROUND_LABEL).astype(np.uint8)
    return np.clip(np.rint(changed), -2048, 4000).astype(np.int16), labels


def _shift_contrast(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Move organs, muscle and bone along the HU scale, softly at their edges."""
    box = box_around(np.isin(labels, _CHANGED_LABELS), _REACH)
    inner, kind = hu[box], labels[box]
    soft_tissue = inner > -30
    organs = (kind == _ORGAN_LABEL) & soft_tissue
    bright = organs & (inner > 60)
    delta = np.float32(generator.normal(0.0, 15.0)) * organs
    # Between unenhanced (about 45 HU everywhere) and half as much contrast again.
    delta += np.float32(generator.uniform(-0.9, 0.5)) * np.where(bright, inner - 45, 0)
    delta += np.float32(generator.normal(0.0, 10.0)) * (np.isin(kind, _MUSCLE_LABELS) & soft_tissue)
    delta += np.float32(generator.normal(0.0, 0.2)) * np.where(kind == _BONE_LABEL, inner, 0)
    delta += np.where(organs, spread(generator.normal(0.0, 12.0, (16, 16)), hu.shape)[box], 0)
    changed = hu.copy()
    changed[box] += ndimage.gaussian_filter(delta, 0.7)
    return changed


def _noise(
    shape: tuple[int, ...], largest_hu: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Noise of a random strength and grain."""
    noise = generator.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, generator.uniform(0.0, 1.2))
    strength = generator.uniform(2.0, largest_hu)
    scaled: NDArray[np.float32] = noise * (strength / noise.std())
    return scaled


def _circle(labels: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a reconstruction circle that leaves 80 to 100 % of the body's width."""
    rows, columns = np.nonzero(labels)
    middle = np.array([rows.mean(), columns.mean()]) + generator.normal(0.0, 8.0, 2)
    radius = generator.uniform(0.8, 1.0) * (np.ptp(columns) + 1) / 2
    grid_rows, grid_columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    inside: NDArray[np.bool_] = np.hypot(grid_rows - middle[0], grid_columns - middle[1]) <= radius
    return inside
