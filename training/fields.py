"""Quick ways to do on one slice what random changes need again and again."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

_WHOLE: Final = (slice(None), slice(None))


def spread(nodes: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate a coarse field linearly, its outermost nodes on the outermost pixels.

    ``scipy.ndimage.zoom`` of order 1, as two products of matrices.

    Parameters
    ----------
    nodes : NDArray[np.float64], shape (rows, columns)
    shape : tuple of int
        Of the result.
    """
    ends = zip(nodes.shape, shape, strict=True)
    rows, columns = (hats(np.linspace(0, count - 1, size), count) for count, size in ends)
    field: NDArray[np.float32] = (rows @ nodes @ columns.T).astype(np.float32)
    return field


def hats(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Weights of ``count`` nodes at places between them, for linear interpolation.

    Returns
    -------
    NDArray[np.float64], shape (places, count)
    """
    weights: NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(count)))
    return weights


def box_around(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold all of ``mask`` and a margin; everything when it is empty."""
    found = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    if not found[0].size:
        return _WHOLE
    rows, columns = (slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in found)
    return rows, columns


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes as ``scipy.ndimage.binary_fill_holes`` does, in one pass."""
    pieces, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    inside: NDArray[np.bool_] = (pieces != pieces[0, 0])[1:-1, 1:-1]
    return inside


def reading_grid(
    rows: NDArray[np.float32], columns: NDArray[np.float32], shape: tuple[int, ...]
) -> torch.Tensor:
    """Places in an image in PyTorch's way: columns first, from -1 to 1.

    Parameters
    ----------
    rows, columns : NDArray[np.float32]
        In pixels; of one shape (R, A) or spread to it.
    shape : tuple of int
        Of the image.

    Returns
    -------
    Tensor, shape (1, R, A, 2)
    """
    grid = np.empty((1, *np.broadcast_shapes(rows.shape, columns.shape), 2), dtype=np.float32)
    for axis, (at, size) in enumerate(((columns, shape[1]), (rows, shape[0]))):
        np.subtract(at * np.float32(2 / (size - 1)), np.float32(1), out=grid[0, ..., axis])
    return torch.from_numpy(grid)


def read_at(
    image: NDArray[Any], grid: torch.Tensor, *, nearest: bool = False
) -> NDArray[np.float32]:
    """Read an image between its pixels; beyond its rim there is nothing but zeros.

    Parameters
    ----------
    image : NDArray, shape (rows, columns)
    grid : Tensor, shape (1, R, A, 2)
        As ``reading_grid`` makes it.
    nearest : bool
        Take the nearest pixel instead of interpolating linearly.
    """
    pixels = torch.from_numpy(np.asarray(image, np.float32))[None, None]
    mode = "nearest" if nearest else "bilinear"
    read = functional.grid_sample(pixels, grid, mode=mode, align_corners=True)
    values: NDArray[np.float32] = read[0, 0].numpy()
    return values
