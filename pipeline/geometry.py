"""Places slices in the patient: order, regularity, affine.

Positions and directions are DICOM patient coordinates (LPS: x to the left, y to posterior, z to
the head; PS3.3 C.7.6.2.1.1) in millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import GeometryError, MixedSeriesError, NotAxialError

AXIAL_TOLERANCE_DEG: Final = 25.0
"""How far the normal of a slice may lean from the long axis of the patient."""

SPACING_TOLERANCE: Final = 0.05
"""How far one distance between slices may differ from the others, as a fraction."""

_ROUNDING_MM: Final = 0.1
"""Some scanners write positions with one decimal; thin slices must not fail for that."""

_SAME_POSITION_MM: Final = 0.01
_UNIT_TOLERANCE: Final = 0.01
_SAME_DIRECTION: Final = 2e-3  # radians, 0.1 degrees


@dataclass(frozen=True, slots=True, eq=False)
class SlicePlane:
    """Where one stored image lies in the patient.

    Parameters
    ----------
    position : NDArray[np.float64], shape (3,)
        Middle of the first pixel (Image Position (Patient)), LPS mm.
    along_row, along_column : NDArray[np.float64], shape (3,)
        Unit vectors of growing column index and of growing row index.
    spacing_mm : tuple[float, float]
        Distance of rows, distance of columns (Pixel Spacing).
    """

    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    spacing_mm: tuple[float, float]

    @property
    def upward_normal(self) -> NDArray[np.float64]:
        """Unit normal, shape (3,), on the side of the head."""
        normal = np.cross(self.along_row, self.along_column)
        return normal if normal[2] >= 0 else -normal

    @property
    def lean_deg(self) -> float:
        """Angle between the normal and the long axis of the patient, 0 to 90."""
        return float(np.degrees(np.arccos(min(1.0, self.upward_normal[2]))))


def slice_plane(
    position: ArrayLike, orientation: ArrayLike, pixel_spacing_mm: Sequence[float]
) -> SlicePlane:
    """Build a plane from the numbers of a header.

    Parameters
    ----------
    position : array_like, shape (3,)
        Image Position (Patient) (0020,0032).
    orientation : array_like, shape (6,)
        Image Orientation (Patient) (0020,0037).
    pixel_spacing_mm : sequence of two floats
        Pixel Spacing (0028,0030).

    Raises
    ------
    GeometryError
        A number is not finite, a spacing not positive, or the directions are not two
        perpendicular unit vectors.
    """
    place = np.asarray(position, dtype=np.float64)
    cosines = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    rows_mm, columns_mm = (float(value) for value in pixel_spacing_mm)
    if not (np.isfinite(place).all() and np.isfinite(cosines).all()):
        raise GeometryError("Image Position or Orientation (Patient) holds a number not finite")
    if not (0 < rows_mm < np.inf and 0 < columns_mm < np.inf):
        raise GeometryError(f"Pixel Spacing {rows_mm:g}, {columns_mm:g} mm is not positive")
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > _UNIT_TOLERANCE or abs(cosines[0] @ cosines[1]) > 0.01:
        raise GeometryError(
            f"Image Orientation (Patient) is no pair of perpendicular unit vectors: lengths "
            f"{lengths[0]:.3f} and {lengths[1]:.3f}, product {cosines[0] @ cosines[1]:.3f}"
        )
    along_row, along_column = cosines / lengths[:, np.newaxis]
    return SlicePlane(place, along_row, along_column, (rows_mm, columns_mm))


def check_axial(plane: SlicePlane) -> None:
    """Refuse a slice that is coronal, sagittal or too oblique.

    Raises
    ------
    NotAxialError
        The normal leans by more than ``AXIAL_TOLERANCE_DEG`` from the long axis.
    """
    if plane.lean_deg > AXIAL_TOLERANCE_DEG:
        raise NotAxialError(
            f"the slices lean by {plane.lean_deg:.1f} degrees from axial, at most "
            f"{AXIAL_TOLERANCE_DEG:.0f} can be measured"
        )


def check_same_grid(planes: Sequence[SlicePlane]) -> None:
    """Refuse planes that are not parallel or differ in Pixel Spacing.

    Raises
    ------
    MixedSeriesError
    """
    first = planes[0]
    for plane in planes[1:]:
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise MixedSeriesError(
                f"Pixel Spacing differs between slices: {first.spacing_mm} mm and "
                f"{plane.spacing_mm} mm"
            )
        turned = max(
            float(np.linalg.norm(plane.along_row - first.along_row)),
            float(np.linalg.norm(plane.along_column - first.along_column)),
        )
        if turned > _SAME_DIRECTION:
            raise MixedSeriesError(
                f"the orientation differs between slices by {np.degrees(turned):.1f} degrees"
            )


def heights_mm(planes: Sequence[SlicePlane]) -> NDArray[np.float64]:
    """Project the positions on the common normal; the most inferior slice has the least value.

    Returns
    -------
    NDArray[np.float64], shape (slices,)
    """
    normal = planes[0].upward_normal
    return np.array([plane.position @ normal for plane in planes])


def same_position(first_mm: float, second_mm: float) -> bool:
    """Whether two heights along the normal are those of one slice."""
    return abs(first_mm - second_mm) < _SAME_POSITION_MM


def longest_regular_run(ascending_mm: Sequence[float]) -> slice:
    """Find the longest run of neighbouring slices that lie at equal distances.

    Parameters
    ----------
    ascending_mm : sequence of float
        Heights of the slices along their normal.

    Returns
    -------
    slice
        Of the run; the lower one of two equally long.
    """
    gaps_mm = np.diff(ascending_mm)
    best = slice(0, min(1, len(ascending_mm)))
    start = 0
    while start < len(gaps_mm):
        stop = start
        while stop < len(gaps_mm) and _alike(gaps_mm[start : stop + 1]):
            stop += 1
        if stop + 1 - start > best.stop - best.start:
            best = slice(start, stop + 1)
        start = max(stop, start + 1)
    return best


def stack_affine(
    planes: Sequence[SlicePlane], slice_thickness_mm: float | None
) -> NDArray[np.float64]:
    """Map (slice, row, column) to LPS millimetres.

    Parameters
    ----------
    planes : sequence of SlicePlane
        Parallel, in ascending order, regular along the normal.
    slice_thickness_mm : float or None
        Stands for the distance of slices where there is only one.

    Returns
    -------
    NDArray[np.float64], shape (4, 4)
        Sheared when the positions wander sideways at equal steps (gantry tilt).

    Raises
    ------
    GeometryError
        The positions do not lie on one line at equal steps.
    """
    first = planes[0]
    if len(planes) == 1:
        step = first.upward_normal * (slice_thickness_mm or 1.0)
    else:
        step = _regular_step(planes)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.along_column * first.spacing_mm[0]
    affine[:3, 2] = first.along_row * first.spacing_mm[1]
    affine[:3, 3] = first.position
    return affine


def tilt_deg(affine: NDArray[np.float64]) -> float:
    """Angle between the normal of the slices and the way from slice to slice (gantry tilt).

    Parameters
    ----------
    affine : NDArray[np.float64], shape (4, 4)

    Returns
    -------
    float
        Degrees, 0 for a stack of slices that is not sheared.
    """
    return _angle_deg(np.cross(affine[:3, 2], affine[:3, 1]), affine[:3, 0])


def lean_deg(affine: NDArray[np.float64]) -> float:
    """Angle between the normal of the slices and the long axis of the patient, in degrees."""
    return _angle_deg(np.cross(affine[:3, 2], affine[:3, 1]), np.array([0.0, 0.0, 1.0]))


def _regular_step(planes: Sequence[SlicePlane]) -> NDArray[np.float64]:
    positions = np.array([plane.position for plane in planes])
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(planes) - 1)
    expected = positions[0] + np.arange(len(planes))[:, np.newaxis] * step
    spacing_mm = float(abs(step @ planes[0].upward_normal))
    astray_mm = float(np.linalg.norm(positions - expected, axis=1).max())
    # Each step may err by the tolerance; in the middle of the stack the errors may have added up.
    if astray_mm > max(_ROUNDING_MM, SPACING_TOLERANCE * spacing_mm) * 2:
        raise GeometryError(
            f"the slices do not lie on one line at equal steps: one is {astray_mm:.2f} mm astray, "
            f"slices are {spacing_mm:.2f} mm apart"
        )
    return step


def _alike(gaps_mm: NDArray[np.float64]) -> bool:
    tolerance_mm = max(_ROUNDING_MM, SPACING_TOLERANCE * float(np.median(gaps_mm)))
    return bool(np.abs(gaps_mm - np.median(gaps_mm)).max() <= tolerance_mm)


def _angle_deg(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    cosine = abs(first @ second) / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(min(1.0, cosine))))
