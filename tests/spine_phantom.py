"""A torso with a spine whose vertebrae lie at known heights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.types import CTVolume, SliceSource

AIR_HU = -1000
SOFT_HU = 40
BODY_HU = 250
DISC_HU = 90
SHELL_HU = 600
COUCH_MM = 118.0


@dataclass(frozen=True)
class SpinePhantom:
    """An ellipse of soft tissue on a couch; bodies and discs alternate along z.

    ``centres_mm`` are heights above the lowest slice. The spine stands 50 mm behind the middle of
    the body and ``spine_left_mm`` to the left.
    """

    slices: int = 60
    slice_mm: float = 4.0
    matrix: int = 160
    pixel_mm: float = 2.5
    centres_mm: tuple[float, ...] = (20.0, 55.0, 90.0, 123.0, 155.0, 186.0, 216.0)
    body_height_mm: float = 26.0
    spine_left_mm: float = 0.0
    couch: bool = True
    tilt_deg: float = 0.0

    @property
    def affine(self) -> NDArray[np.float64]:
        """Rows run to the back, columns to the left, slices to the head.

        ``tilt_deg`` turns the slices about x while the table still moves along z.
        """
        tilt = np.radians(self.tilt_deg)
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        affine[2, 0], affine[0, 2] = self.slice_mm, self.pixel_mm
        affine[1:3, 1] = np.array([np.cos(tilt), -np.sin(tilt)]) * self.pixel_mm
        affine[:3, 3] = -affine[:3, 1:3] @ np.full(2, (self.matrix - 1) / 2)
        return affine

    def volume(self) -> CTVolume:
        """Return the phantom as a series."""
        shape = (self.slices, self.matrix, self.matrix)
        x, y, z = np.tensordot(self.affine[:3, :3], np.indices(shape, np.float32), axes=1)
        x, y, z = (c + o for c, o in zip((x, y, z), self.affine[:3, 3], strict=True))
        hu = np.full(shape, AIR_HU, np.int16)
        hu[(x / 160) ** 2 + (y / 110) ** 2 <= 1] = SOFT_HU
        if self.couch:
            hu[np.abs(y - COUCH_MM) <= 2.5] = 200
        away = np.abs(z[..., None] - np.array(self.centres_mm, np.float32)).min(axis=-1)
        half = self.body_height_mm / 2
        bone = np.where(away < half - 3, BODY_HU, np.where(away < half, SHELL_HU, DISC_HU))
        spine = ((x - self.spine_left_mm) / 22) ** 2 + ((y - 50) / 16) ** 2 <= 1
        hu[spine] = bone[spine]
        hu[(np.abs(x - self.spine_left_mm) <= 6) & (y >= 72) & (y <= 92)] = SHELL_HU
        sources = tuple(SliceSource(f"1.2.3.{i}") for i in range(self.slices))
        return CTVolume(hu, self.affine, sources, "1.2.3")


def reoriented(volume: CTVolume, flip_rows: bool, flip_columns: bool, transpose: bool) -> CTVolume:
    """Store the same anatomy with other rows and columns."""
    hu, affine = volume.hu, volume.affine.copy()
    for axis, flip in ((1, flip_rows), (2, flip_columns)):
        if flip:
            hu = np.flip(hu, axis)
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
    if transpose:
        hu = hu.swapaxes(1, 2)
        affine = affine[:, [0, 2, 1, 3]]
    return CTVolume(np.ascontiguousarray(hu), affine, volume.sources, volume.series_instance_uid)
