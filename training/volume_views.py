"""Views of unlabelled volumes for pre-training in three dimensions."""

# SimpleITK types only some of its methods.
# mypy: disable-error-code="no-untyped-call"

from typing import Final

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its manual uses
from numpy.typing import NDArray

from pipeline.preprocess import AIR_HU, HUWindow
from pipeline.types import CTVolume

_LEAST_TISSUE: Final = 0.25
_ATTEMPTS: Final = 8
# Columns: steps of the network's axes R, A, S in LPS.
_RAS: Final = np.diag([-1.0, -1.0, 1.0])


def draw_volume_views(
    volume: CTVolume,
    window: HUWindow,
    spacing_mm: tuple[float, ...],
    sides: tuple[int, int],
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw two cubes that lie near each other in one region of a volume.

    Intensities are not changed and nothing is turned, as published.

    Parameters
    ----------
    volume : CTVolume
        Only the part that is needed is read from a mapped one.
    window : HUWindow
    spacing_mm : tuple of three float
    sides : tuple[int, int]
        Of the region both views come from, and of the views, in cells.
    generator : numpy.random.Generator

    Returns
    -------
    NDArray[np.float32], shape (2, 1, side, side, side)
        Axes R, A, S.
    """
    region = _region(volume, window, spacing_mm, sides[0], generator)
    for _ in range(_ATTEMPTS):
        if (region > 0).mean() > _LEAST_TISSUE:
            break
        region = _region(volume, window, spacing_mm, sides[0], generator)
    corners = generator.integers(sides[0] - sides[1] + 1, size=(2, 3))
    views = [region[tuple(slice(c, c + sides[1]) for c in corner)] for corner in corners]
    return np.stack(views)[:, None]


def _region(
    volume: CTVolume,
    window: HUWindow,
    spacing_mm: tuple[float, ...],
    side: int,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Resample a cube round a random place; where the volume ends is air."""
    shape = np.array(volume.hu.shape)
    half_mm = np.array(spacing_mm) * (side - 1) / 2
    steps_mm = np.linalg.norm(volume.affine[:3, :3], axis=0)
    # Half of the region stays within the volume, or the middle of the volume is taken.
    reach = np.minimum(half_mm[::-1] / 2 / steps_mm, (shape - 1) / 2)
    at = generator.uniform(reach, shape - 1 - reach)
    middle = volume.affine @ [*at, 1.0]
    to_lps = np.eye(4)
    to_lps[:3, :3] = _RAS * np.array(spacing_mm)
    to_lps[:3, 3] = middle[:3] - to_lps[:3, :3] @ np.full(3, (side - 1) / 2)
    hu = _resample(volume, to_lps, side)
    return window.scale(hu)


def _resample(volume: CTVolume, to_lps: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    to_index = np.linalg.inv(volume.affine) @ to_lps
    corners = np.array(np.meshgrid(*[[0, side - 1]] * 3)).reshape(3, -1)
    reached = (to_index @ np.vstack([corners, np.ones(8)]))[:3]
    low = np.maximum(np.floor(reached.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(reached.max(1)).astype(int) + 1, volume.hu.shape)
    part = volume.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    image = sitk.GetImageFromArray(np.asarray(part, dtype=np.float32))
    # SimpleITK's axes run the other way: ours (slice, row, column), its (column, row, slice).
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_index[:3, :3][::-1, ::-1].ravel().tolist())
    transform.SetTranslation((to_index[:3, 3] - low)[::-1].tolist())
    resampled: NDArray[np.float32] = sitk.GetArrayFromImage(
        sitk.Resample(image, (side,) * 3, transform, sitk.sitkLinear, (0.0,) * 3, (1.0,) * 3,
                      np.eye(3).ravel().tolist(), AIR_HU)
    )  # fmt: skip
    return resampled
