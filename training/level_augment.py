"""Random windows, distortions and faults of spine views for the training of the finder of L3."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.level.projections import AIR_HU
from pipeline.networks.level import LEVEL_CLASSES
from training.level_cases import LevelCase

_FIRST_CLASS_NUMBER: Final = 7  # "above" stands for T7 and everything cranial of it
_CENTRE_SIGMA: Final = (2.0, 1.5)  # rows, half columns
_MARGIN: Final = 0.8  # how far beyond the last labelled vertebra the numbering is trusted

Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LevelSample:
    """One view in HU with its targets.

    Parameters
    ----------
    hu : NDArray[np.float32], shape (views, rows, COLUMNS)
    levels : NDArray[np.float32], shape (classes, rows)
        Probability of each class, zero in rows of unknown level.
    centres : NDArray[np.float32], shape (rows, COLUMNS / 2)
    centres_known : NDArray[np.float32], shape (rows,)
    """

    hu: Picture
    levels: Picture
    centres: Picture
    centres_known: Picture


@dataclass(frozen=True, slots=True)
class Distortion:
    """Where each pixel of a window comes from.

    Parameters
    ----------
    first_row, row_step : float
        Source row of the window's row 0, source rows for each row.
    column_step : float
        Source columns for each column, negative when mirrored.
    shift, slope, wave, phase : float
        Sideways displacement in source columns: constant, for each row, amplitude and phase of a
        wave along the rows.
    """

    first_row: float
    row_step: float
    column_step: float
    shift: float
    slope: float
    wave: float
    phase: float

    def sideways(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Displacement in source columns of source ``rows``."""
        return np.asarray(
            self.shift + self.slope * rows + self.wave * np.sin(rows / 35.0 + self.phase),
            np.float64,
        )


def draw_sample(
    case: LevelCase, view: str, rows: int, generator: np.random.Generator
) -> LevelSample:
    """Draw one window of ``rows`` rows from a case and distort it.

    Parameters
    ----------
    case : LevelCase
    view : str
        ``"side"`` or ``"front"``.
    rows : int
        At most about 0.85 of the rows of the case.
    generator : numpy.random.Generator
    """
    source = _source(case, view, generator)
    distortion = _draw_distortion(source.shape, rows, view, generator)
    hu = np.stack([_warped(picture, rows, distortion) for picture in source])
    window_rows = (case.rows - distortion.first_row) / distortion.row_step
    middle = (source.shape[-1] - 1) / 2
    columns = (
        middle + (case.columns - middle - distortion.sideways(case.rows)) / distortion.column_step
    )
    hu = _changed(hu, view, generator)
    return LevelSample(
        hu,
        level_targets(rows, window_rows, case.numbers) * case.confidence,
        *centre_targets((rows, hu.shape[-1] // 2), window_rows, columns, case.numbers),
    )


def level_targets(rows: int, centres: NDArray[np.float64], numbers: NDArray[np.float64]) -> Picture:
    """Probabilities of ``LEVEL_CLASSES``, shape (classes, rows), between labelled centres.

    Parameters
    ----------
    rows : int
    centres : NDArray[np.float64], shape (vertebrae,)
        Rows of the centres, ascending.
    numbers : NDArray[np.float64], shape (vertebrae,)
        T1 is 1, S1 is 18; descending. Without any, every row is "outside".
    """
    targets = np.zeros((len(LEVEL_CLASSES), rows), np.float32)
    if len(numbers) == 0:
        targets[-1] = 1.0
        return targets
    number = row_numbers(np.arange(rows, dtype=np.float64), centres, numbers)
    known = number <= numbers[0] + (np.inf if numbers[0] == 18 else _MARGIN)
    known &= number >= numbers[-1] - (np.inf if numbers[-1] <= 8 else _MARGIN)
    place = np.clip(number - _FIRST_CLASS_NUMBER, 0, len(LEVEL_CLASSES) - 1)
    below = np.minimum(place.astype(int), len(LEVEL_CLASSES) - 2)
    part = place - below
    every = np.arange(rows)
    targets[below, every] = 1 - part
    targets[below + 1, every] = part
    return np.asarray(targets * known, np.float32)


def row_numbers(
    rows: NDArray[np.float64], centres: NDArray[np.float64], numbers: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate vertebra numbers at ``rows``; go on at the last spacing beyond the ends."""
    number = np.interp(rows, centres, numbers)
    gap_low = float(np.median(np.diff(centres[:4])))
    gap_high = float(np.median(np.diff(centres[-4:])))
    number = np.where(rows < centres[0], numbers[0] + (centres[0] - rows) / gap_low, number)
    return np.where(rows > centres[-1], numbers[-1] - (rows - centres[-1]) / gap_high, number)


def centre_targets(
    shape: tuple[int, int],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    numbers: NDArray[np.float64],
) -> tuple[Picture, Picture]:
    """Blobs at the body centres and the rows in which all centres are labelled.

    Parameters
    ----------
    shape : tuple[int, int]
        Rows, half columns.
    rows, columns : NDArray[np.float64], shape (vertebrae,)
        Columns at full resolution.
    numbers : NDArray[np.float64], shape (vertebrae,)
    """
    y = np.arange(shape[0])[:, None, None]
    x = np.arange(shape[1])[None, :, None]
    centres = np.zeros(shape)
    known = np.ones(shape[0])
    if len(numbers):
        distance = ((y - rows) / _CENTRE_SIGMA[0]) ** 2
        distance = distance + ((x - (columns - 0.5) / 2) / _CENTRE_SIGMA[1]) ** 2
        centres = np.exp(-0.5 * distance).max(axis=2)
        number = row_numbers(np.arange(shape[0], dtype=np.float64), rows, numbers)
        known = (number > numbers[-1] - 0.55) & ((number < numbers[0] + 0.55) | (numbers[0] == 18))
    return centres.astype(np.float32), known.astype(np.float32)


def _source(case: LevelCase, view: str, generator: np.random.Generator) -> Picture:
    if view == "side":
        return case.sides[generator.integers(len(case.sides))][None]
    if case.front is None:
        raise ValueError(f"case {case.name} has no front view")
    return case.front


def _draw_distortion(
    shape: tuple[int, ...], rows: int, view: str, generator: np.random.Generator
) -> Distortion:
    stretch = min(generator.uniform(0.85, 1.18), shape[1] / rows)
    first = generator.uniform(0, max(shape[1] - rows * stretch, 0.0))
    # Every third window keeps an end of the volume, where real series end as well.
    if generator.random() < 0.3:
        first = 0.0 if generator.random() < 0.5 else max(shape[1] - rows * stretch, 0.0)
    wide = 1.0 if view == "side" else 0.6
    mirrored = view == "front" and generator.random() < 0.5
    slope = generator.uniform(-0.2, 0.2) * wide
    return Distortion(
        first_row=first,
        row_step=stretch,
        column_step=generator.uniform(0.82, 1.22) * (-1 if mirrored else 1),
        shift=generator.uniform(-11, 11) * wide - slope * (first + rows * stretch / 2),
        slope=slope,
        wave=generator.uniform(0, 7) * wide,
        phase=generator.uniform(0, 2 * np.pi),
    )


def _warped(picture: Picture, rows: int, distortion: Distortion) -> Picture:
    source_rows = distortion.first_row + np.arange(rows) * distortion.row_step
    middle = (picture.shape[1] - 1) / 2
    columns = (np.arange(picture.shape[1]) - middle) * distortion.column_step + middle
    grid_columns = columns[None, :] + distortion.sideways(source_rows)[:, None]
    grid_rows = np.broadcast_to(source_rows[:, None], grid_columns.shape)
    # Past the ends rows repeat: a window may be a row longer than its source.
    grid_rows = np.clip(grid_rows, 0, picture.shape[0] - 1)
    return np.asarray(
        ndimage.map_coordinates(
            picture, [grid_rows, grid_columns], order=1, mode="constant", cval=AIR_HU
        ),
        np.float32,
    )


def _changed(hu: Picture, view: str, generator: np.random.Generator) -> Picture:
    """Thickness, sharpness, calibration, contrast, noise and field of view."""
    thick = generator.uniform(0.3, 1.8) if generator.random() < 0.6 else 0.0
    soft = generator.uniform(0.2, 1.0) if generator.random() < 0.5 else 0.0
    hu = np.asarray(ndimage.gaussian_filter(hu, (0, thick, soft)), np.float32)
    if generator.random() < 0.35:
        hu = _stepped(hu, generator)
    bone = np.maximum(hu - 100, 0)
    brighter = np.float32(generator.uniform(-0.35, 0.35))
    hu = np.asarray(hu + bone * brighter, np.float32)
    scale, offset = np.float32(generator.uniform(0.93, 1.07)), np.float32(generator.normal(0, 15))
    hu = np.asarray(np.where(hu > -500, hu * scale + offset, hu), np.float32)
    if view == "front":
        hu = _spotted(hu, generator)
    if generator.random() < 0.6:
        sigma = generator.uniform(0, 45 if view == "side" else 30)
        grain = generator.normal(0, sigma, hu.shape)
        smooth = np.asarray(ndimage.gaussian_filter(grain, (0, 0, 0.5)), np.float32)
        hu = np.asarray(np.where(hu > AIR_HU + 1, hu + smooth, hu), np.float32)
    if generator.random() < 0.3:
        hu = _cropped(hu, view, generator)
    return hu


def _stepped(hu: Picture, generator: np.random.Generator) -> Picture:
    """Imitate slices up to 8 mm apart."""
    step = generator.uniform(1.5, 4.0)
    rows = np.arange(hu.shape[1])
    kept = np.arange(generator.uniform(0, step), hu.shape[1], step)
    sampled = ndimage.uniform_filter1d(hu, max(1, round(step)), axis=1)[:, kept.astype(int)]
    place = np.clip((rows - kept[0]) / step, 0, len(kept) - 1)
    below = np.minimum(place.astype(int), max(len(kept) - 2, 0))
    above = np.minimum(below + 1, len(kept) - 1)
    part = (place - below)[None, :, None]
    return np.asarray(sampled[:, below] * (1 - part) + sampled[:, above] * part, np.float32)


def _spotted(hu: Picture, generator: np.random.Generator) -> Picture:
    """Bright bowel content, calcifications or metal in the maximum and the mean of the body."""
    if generator.random() < 0.5:
        return hu
    hu = hu.copy()
    y, x = np.mgrid[: hu.shape[1], : hu.shape[2]]
    for _ in range(generator.integers(1, 8)):
        centre = generator.uniform(0, 1, 2) * hu.shape[1:]
        radius = generator.uniform(1, 9, 2)
        inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
        bright = generator.uniform(150, 1200)
        hu[1] = np.where(inside, np.maximum(hu[1], bright), hu[1])
        hu[2] = np.where(inside, hu[2] + generator.uniform(0, 40), hu[2])
    return hu


def _cropped(hu: Picture, view: str, generator: np.random.Generator) -> Picture:
    """Cut the field of view at the front of the body or at both flanks."""
    hu = hu.copy()
    if view == "side":
        hu[..., : generator.integers(0, 45)] = AIR_HU
        return hu
    hu[..., : generator.integers(0, 30)] = AIR_HU
    hu[..., hu.shape[-1] - generator.integers(0, 30) :] = AIR_HU
    return hu
