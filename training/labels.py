"""Numbers of the labels that training reads, and how foreign labels become them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.preprocess import body_mask
from pipeline.tissues import TISSUES, Tissue

BACKGROUND: Final = 0
MUSCLE: Final = 1
INTERMUSCULAR_FAT: Final = 2
SUBCUTANEOUS_FAT: Final = 3
VISCERAL_FAT: Final = 4
BONE: Final = 5
OTHER_INSIDE: Final = 6
OTHER_OUTSIDE: Final = 7
UNDRAWN: Final = 255
"""A pixel that nobody looked at; in slices that are drawn none is left of them."""

_BY_NAME: Final = {tissue.name: tissue for tissue in TISSUES}
_BONE_HU: Final = 160
_SMALLEST_BONE_MM2: Final = 60.0
_WALL_GAPS_MM: Final = (25.0, 50.0, 90.0, 150.0)
"""Gaps in the ring of muscle that count as closed; the first that leaves an inside is taken."""

_LEAST_INSIDE: Final = 0.6
"""Area that the wall of the body surrounds, as a share of the area of muscle."""

_BETWEEN_MUSCLES_MM: Final = 5.0


def gate_muscle(labels: NDArray[np.uint8], hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Split an outline of muscle into muscle and the fat between muscles by their ranges of HU.

    Parameters
    ----------
    labels : NDArray[np.uint8]
        ``MUSCLE`` stands for the whole outline.
    hu : NDArray[np.int16], of the same shape

    Returns
    -------
    NDArray[np.uint8]
        Pixels of the outline outside of both ranges keep the nearer of the two labels.
    """
    lowest = _BY_NAME["skeletal_muscle"].lower_hu
    gated = labels.copy()
    gated[(labels == MUSCLE) & (hu < lowest)] = INTERMUSCULAR_FAT
    return gated


def complete(
    labels: NDArray[np.uint8], hu: NDArray[np.int16], pixel_mm: tuple[float, float]
) -> NDArray[np.uint8]:
    """Derive the compartments that nobody drew from the muscle and the HU of a slice.

    Many labels name skeletal muscle alone, or muscle and fat, and only where HU say so. The wall
    of the body, closed over its gaps, tells inside from outside; HU tell bone and fat.

    Parameters
    ----------
    labels : NDArray[np.uint8], shape (rows, columns)
        Drawn labels; ``BACKGROUND`` and ``UNDRAWN`` where nothing is drawn.
    hu : NDArray[np.int16], shape (rows, columns)
    pixel_mm : tuple[float, float]
        Distance of rows and of columns.

    Returns
    -------
    NDArray[np.uint8], shape (rows, columns)
        No pixel is ``UNDRAWN``; what was drawn stays.
    """
    known = np.where(labels == UNDRAWN, BACKGROUND, labels).astype(np.uint8)
    body = ndimage.binary_fill_holes(body_mask(hu) | (known != BACKGROUND))
    bone = _bone(hu, body, known, pixel_mm)
    muscle = np.isin(known, (MUSCLE, INTERMUSCULAR_FAT))
    inside = _inside(muscle, bone | (known == VISCERAL_FAT), pixel_mm)
    between = _closed(muscle, _BETWEEN_MUSCLES_MM, pixel_mm, fill=False)
    derived = np.where(body, OTHER_OUTSIDE, BACKGROUND).astype(np.uint8)
    derived[body & _within(hu, "subcutaneous_fat")] = SUBCUTANEOUS_FAT
    derived[inside & body] = OTHER_INSIDE
    derived[inside & body & _within(hu, "visceral_fat")] = VISCERAL_FAT
    derived[between & body & _within(hu, "intermuscular_fat")] = INTERMUSCULAR_FAT
    derived[bone] = BONE
    return np.where(known == BACKGROUND, derived, known).astype(np.uint8)


def _inside(
    muscle: NDArray[np.bool_], others: NDArray[np.bool_], pixel_mm: tuple[float, float]
) -> NDArray[np.bool_]:
    """Close the wall of the body as little as it takes to have an inside."""
    inside = muscle
    for gap_mm in _WALL_GAPS_MM:
        inside = _closed(muscle | others, gap_mm, pixel_mm)
        surrounded = np.count_nonzero(inside & ~muscle & ~others)
        if surrounded >= _LEAST_INSIDE * np.count_nonzero(muscle):
            break
    return inside


def _bone(
    hu: NDArray[np.int16],
    body: NDArray[np.bool_],
    known: NDArray[np.uint8],
    pixel_mm: tuple[float, float],
) -> NDArray[np.bool_]:
    """Large bright pieces, filled; contrast in bowel and vessels is smaller or not this bright."""
    bright = body & (hu > _BONE_HU) & (known == BACKGROUND)
    bright = ndimage.binary_opening(_closed(bright, 6.0, pixel_mm), iterations=1)
    pieces, count = ndimage.label(bright)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1) * pixel_mm[0] * pixel_mm[1]
    sizes[0] = 0
    bone: NDArray[np.bool_] = (sizes >= _SMALLEST_BONE_MM2)[pieces] & (known == BACKGROUND)
    return bone


def _closed(
    mask: NDArray[np.bool_], gap_mm: float, pixel_mm: tuple[float, float], *, fill: bool = True
) -> NDArray[np.bool_]:
    """Close gaps of a mask and fill what it surrounds; distances instead of large kernels."""
    if not mask.any():
        return mask
    padded = np.pad(mask, 1 + int(np.ceil(gap_mm / min(pixel_mm))))
    grown = ndimage.distance_transform_edt(~padded, sampling=pixel_mm) <= gap_mm / 2
    if fill:
        grown = ndimage.binary_fill_holes(grown)
    shrunk = ndimage.distance_transform_edt(grown, sampling=pixel_mm) > gap_mm / 2
    edge = (padded.shape[0] - mask.shape[0]) // 2
    closed: NDArray[np.bool_] = shrunk[edge:-edge, edge:-edge] | mask
    return closed


def _within(hu: NDArray[np.int16], name: str) -> NDArray[np.bool_]:
    tissue: Tissue = _BY_NAME[name]
    within: NDArray[np.bool_] = (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
    return within
