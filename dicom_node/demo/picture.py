"""Write what was read back as PNG files."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_rescale

_WINDOW_HU: Final = (-160.0, 240.0)
_COLOUR: Final = np.array([220.0, 60.0, 60.0])
_OPACITY: Final = 0.45


def draw_overlay(source: Dataset, mask: NDArray[np.bool_], path: Path) -> None:
    """Write the slice in a soft tissue window, the mask in red on the right half.

    Parameters
    ----------
    source : Dataset
        A CT slice.
    mask : NDArray[np.bool_], shape (rows, columns)
    path : Path
    """
    hu = np.asarray(apply_rescale(source.pixel_array, source), dtype=np.float64)
    lower, upper = _WINDOW_HU
    grey = np.clip((hu - lower) / (upper - lower), 0.0, 1.0) * 255.0
    plain = np.repeat(grey[..., None], 3, axis=2)
    marked = plain.copy()
    marked[mask] = (1 - _OPACITY) * plain[mask] + _OPACITY * _COLOUR
    side_by_side = np.concatenate([plain, marked], axis=1)
    Image.fromarray(np.rint(side_by_side).astype(np.uint8)).save(path)


def write_image(image: Dataset, path: Path) -> None:
    """Write the pixels of a colour image.

    Parameters
    ----------
    image : Dataset
        RGB, 8 bits, not compressed.
    path : Path
    """
    Image.fromarray(image.pixel_array).save(path)
