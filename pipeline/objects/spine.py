"""Finds a place for an outline round the vertebra of a slice."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.types import CTVolume

_BODY_HU: Final = -300
_BONE_HU: Final = 150
_HALF_WIDTH_MM: Final = 35.0
_RADII_MM: Final = (18.0, 15.0)  # left-right, front-back: a lumbar body is about 45 x 35 mm
_POINTS: Final = 33


def spine_outline(volume: CTVolume, slice_index: int) -> NDArray[np.float64]:
    """Draw a small closed ellipse on the vertebra.

    Parameters
    ----------
    volume : CTVolume
    slice_index : int

    Returns
    -------
    NDArray[np.float64], shape (33, 2)
        Column and row in the image coordinates of SCOORD (PS3.3 C.18.6.1.1: the outer corner of
        the first pixel is 0, 0); first and last point are equal.
    """
    middle = _spine_middle(volume, slice_index)
    rows_mm, columns_mm = volume.pixel_spacing_mm
    across = np.abs(volume.affine[0, 1:3])
    # Rows may run across the patient (decubitus, turned images).
    radius_row_mm, radius_column_mm = (
        _RADII_MM if across[0] / rows_mm > across[1] / columns_mm else _RADII_MM[::-1]
    )
    angles = np.linspace(0.0, 2.0 * np.pi, _POINTS)
    columns = middle[1] + 0.5 + radius_column_mm / columns_mm * np.cos(angles)
    rows = middle[0] + 0.5 + radius_row_mm / rows_mm * np.sin(angles)
    limits = np.array(volume.hu.shape[:0:-1], dtype=np.float64)
    points: NDArray[np.float64] = np.clip(np.column_stack([columns, rows]), 0.0, limits).round(2)
    points[-1] = points[0]
    return points


def body_of(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Find the body on a slice: the largest region that is not air, without couch and clothes."""
    return _largest(hu > _BODY_HU)


def _spine_middle(volume: CTVolume, slice_index: int) -> tuple[float, float]:
    hu = volume.hu[slice_index]
    body = body_of(hu)
    if not body.any():
        return (hu.shape[0] - 1) / 2, (hu.shape[1] - 1) / 2
    rows, columns = np.indices(hu.shape)
    x_mm, y_mm = (
        volume.affine[axis, 1] * rows + volume.affine[axis, 2] * columns for axis in (0, 1)
    )
    # In patient coordinates the spine is behind the middle however the patient lies.
    near = (np.abs(x_mm - x_mm[body].mean()) < _HALF_WIDTH_MM) & (y_mm > y_mm[body].mean() - 10.0)
    bone = _largest(ndimage.binary_opening((hu > _BONE_HU) & near & body, iterations=2))
    row, column = ndimage.center_of_mass(bone if bone.any() else near & body)
    return float(row), float(column)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    largest: NDArray[np.bool_] = labels == int(sizes.argmax()) + 1
    return largest
