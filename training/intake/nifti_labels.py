"""Labels from NIfTI files, one file of values or one file for each structure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import CTVolume
from training import labels
from training.data import read_images
from training.intake.found import Drawn

_SAME_PLACE_MM: Final = 0.5


def read_values(path: Path, volume: CTVolume, values: Mapping[int, int], *, whole: bool) -> Drawn:
    """Read a file whose values name structures.

    Parameters
    ----------
    path : Path
    volume : CTVolume
        The images, read by the same reader.
    values : Mapping
        Value to label; other values are background.
    whole : bool
        Every compartment was drawn.
    """
    drawn = read_images(path)
    faults = _faults(drawn, volume)
    if drawn.hu.shape != volume.hu.shape:
        return Drawn({}, whole, faults)
    table = np.zeros(256, dtype=np.uint8)
    for value, label in values.items():
        table[value] = label
    found = table[np.clip(drawn.hu, 0, 255)]
    return Drawn(_drawn_slices(found), whole, faults)


def read_masks(masks: Mapping[Path, int], volume: CTVolume) -> Drawn:
    """Read one file for each structure; later ones lie on top.

    Parameters
    ----------
    masks : Mapping
        Path to label.
    volume : CTVolume
    """
    found = np.zeros(volume.hu.shape, dtype=np.uint8)
    faults: tuple[str, ...] = ()
    for path, label in masks.items():
        mask = read_images(path)
        faults += _faults(mask, volume)
        if mask.hu.shape != volume.hu.shape:
            return Drawn({}, whole=False, faults=faults)
        found[mask.hu > 0] = label
    return Drawn(_drawn_slices(found), whole=False, faults=tuple(sorted(set(faults))))


def _faults(drawn: CTVolume, volume: CTVolume) -> tuple[str, ...]:
    """Say how the grid of a drawing differs from that of the images."""
    if drawn.hu.shape != volume.hu.shape:
        return (f"labels have shape {drawn.hu.shape}, images {volume.hu.shape}",)
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in volume.hu.shape), 1]]).T
    apart = np.abs(drawn.affine @ corners - volume.affine @ corners).max()
    if apart > _SAME_PLACE_MM:
        return (f"labels and images lie {apart:.1f} mm apart",)
    return ()


def _drawn_slices(found: NDArray[np.uint8]) -> dict[int, NDArray[np.uint8]]:
    """Slices that hold muscle and that somebody drew on throughout."""
    return {
        index: one
        for index, one in enumerate(found)
        if not (one == labels.UNDRAWN).all() and (one == labels.MUSCLE).any()
    }
