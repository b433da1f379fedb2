"""Pictures of the spine from the side and from the front.

The frame of a series is the one of its slices, turned to the patient: ``x`` runs to the left and
``y`` to the back inside a slice, ``z`` to the head along the normal of the slices. Tilted and
oblique stacks are sheared back while the pictures are sampled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.types import CTVolume

ROW_MM = 2.0
SIDE_COLUMN_MM = 2.0
FRONT_COLUMN_MM = 3.0
COLUMNS = 128
AIR_HU = -1000

_COARSE_MM = 4.0
_SIDE_BEFORE_SPINE_MM = 170.0
_SLAB_HALF_WIDTH_MM = 6.0
_BACK_SLAB_MM = (-15.0, 60.0)
_SKIN_HU = -300
_BONE_HU = (150.0, 450.0)
_MOVE_COST_YX = (0.1, 0.4)
_SPINE_SIGMA_MM = 9.0

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SpineImages:
    """Two views of one series; row 0 is the most inferior, rows are ``ROW_MM`` apart.

    Parameters
    ----------
    side : NDArray[np.float32], shape (rows, COLUMNS)
        Mean HU of a slab along the mid-line of the spine; columns run to the back.
    front : NDArray[np.float32], shape (3, rows, COLUMNS)
        HU: maximum over a slab behind the spine's front, maximum over the body, mean over the
        body; columns run to the left.
    slice_of_row : NDArray[np.float64], shape (rows,)
        Slice, as a fraction, of each row.
    spine_mm : NDArray[np.float64], shape (rows, 2)
        Column position (side, front) of the spine in millimetres from the pictures' left edge.
    edges_mm : tuple[float, float]
        Where the first columns (side, front) lie in the lowest slice, counted from its first row
        and column after the slice is turned.
    """

    side: Image
    front: Image
    slice_of_row: NDArray[np.float64]
    spine_mm: NDArray[np.float64]
    edges_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """Slices turned to the patient's axes: hu (z, y, x), steps in mm, drift of each slice in mm."""

    hu: NDArray[np.float32]
    z_mm: float
    y_mm: float
    x_mm: float
    drift_y_mm: NDArray[np.floating]
    drift_x_mm: NDArray[np.floating]
    slices_per_layer: int


def project(volume: CTVolume, sideways_mm: float = 0.0) -> SpineImages:
    """Draw the two views of ``volume``.

    Parameters
    ----------
    volume : CTVolume
    sideways_mm : float
        How far left of the mid-line the view from the side is taken; training varies it.

    Returns
    -------
    SpineImages
    """
    stack = _turned(volume)
    body = _body(stack)
    hu = np.where(body, stack.hu, np.float32(AIR_HU))
    path_yx = _spine_path(stack, hu)
    centre_y = float(np.median(path_yx[:, 0] * stack.y_mm + stack.drift_y_mm))
    centre_x = float(np.median(path_yx[:, 1] * stack.x_mm + stack.drift_x_mm))
    side_start = centre_y - _SIDE_BEFORE_SPINE_MM
    front_start = centre_x - COLUMNS / 2 * FRONT_COLUMN_MM
    side = _resampled(
        _side(stack, hu, path_yx[:, 1] + sideways_mm / stack.x_mm),
        (stack.y_mm, stack.drift_y_mm),
        side_start + np.arange(COLUMNS) * SIDE_COLUMN_MM,
    )
    columns = front_start + np.arange(COLUMNS) * FRONT_COLUMN_MM
    fronts = [
        _resampled(picture, (stack.x_mm, stack.drift_x_mm), columns)
        for picture in _front(stack, hu, path_yx[:, 0])
    ]
    spine_mm = np.stack(
        [
            path_yx[:, 0] * stack.y_mm + stack.drift_y_mm - side_start,
            path_yx[:, 1] * stack.x_mm + stack.drift_x_mm - front_start,
        ],
        axis=1,
    )
    layer = _layer_of_row(stack)
    return SpineImages(
        side=_rows(side, layer),
        front=np.stack([_rows(front, layer) for front in fronts]),
        slice_of_row=layer * stack.slices_per_layer + (stack.slices_per_layer - 1) / 2,
        spine_mm=np.stack([np.interp(layer, np.arange(len(c)), c) for c in spine_mm.T], axis=1),
        edges_mm=(side_start, front_start),
    )


def body_of_section(hu: NDArray[np.float32], pixel_mm: float) -> NDArray[np.bool_]:
    """Largest piece of one sagittal image, shape (rows, columns), without the couch."""
    size = max(1, round(2 * _COARSE_MM / pixel_mm))
    coarse = hu > _SKIN_HU
    opened = ndimage.binary_opening(coarse, np.ones((1, 2 * size + 1), bool))
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.ones(hu.shape, np.bool_)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    grown = ndimage.binary_dilation(largest, np.ones((1, 2 * size + 1), bool)) & coarse
    return np.asarray(ndimage.binary_fill_holes(grown), np.bool_)


def _turned(volume: CTVolume) -> _Stack:
    """Average ``volume`` to about 2 mm and turn its slices to x left, y back."""
    row_step, column_step = volume.affine[:3, 1], volume.affine[:3, 2]
    rows_are_y = abs(row_step[1]) >= abs(column_step[1])
    y_step, x_step = (row_step, column_step) if rows_are_y else (column_step, row_step)
    flip_y, flip_x = y_step[1] < 0, x_step[0] < 0
    y_mm, x_mm = float(np.linalg.norm(y_step)), float(np.linalg.norm(x_step))
    y_axis = y_step / y_mm * (-1 if flip_y else 1)
    x_axis = x_step / x_mm * (-1 if flip_x else 1)
    per_y, per_x = max(1, int(2.0 / y_mm)), max(1, int(2.0 / x_mm))
    per_z = max(1, int(ROW_MM / volume.slice_spacing_mm))
    hu = _averaged(volume.hu if rows_are_y else volume.hu.swapaxes(1, 2), per_z, per_y, per_x)
    hu = hu[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1]
    slice_step = volume.affine[:3, 0] * per_z
    layers = np.arange(hu.shape[0])
    return _Stack(
        hu=hu,
        z_mm=volume.slice_spacing_mm * per_z,
        y_mm=y_mm * per_y,
        x_mm=x_mm * per_x,
        drift_y_mm=layers * float(slice_step @ y_axis),
        drift_x_mm=layers * float(slice_step @ x_axis),
        slices_per_layer=per_z,
    )


def _averaged(hu: NDArray[np.int16], per_z: int, per_y: int, per_x: int) -> NDArray[np.float32]:
    """Block means; what is left over at the far ends is dropped."""
    layers, rows, columns = hu.shape[0] // per_z, hu.shape[1] // per_y, hu.shape[2] // per_x
    mean = np.empty((layers, rows, columns), np.float32)
    for layer in range(layers):
        block = hu[layer * per_z : (layer + 1) * per_z, : rows * per_y, : columns * per_x]
        total = np.zeros((rows, columns), np.int32)
        for z in range(per_z):
            for y in range(per_y):
                for x in range(per_x):
                    total += block[z, y::per_y, x::per_x]
        mean[layer] = total / np.float32(per_z * per_y * per_x)
    np.clip(mean, AIR_HU, 3000, out=mean)
    return mean


def _body(stack: _Stack) -> NDArray[np.bool_]:
    """Largest connected piece above the skin's threshold, without the couch."""
    step = (1, max(1, round(_COARSE_MM / stack.y_mm)), max(1, round(_COARSE_MM / stack.x_mm)))
    coarse = stack.hu[:: step[0], :: step[1], :: step[2]] > _SKIN_HU
    # The couch touches the back along a line only: an opening inside the slice parts them.
    opened = ndimage.binary_opening(coarse, np.ones((1, 3, 3), bool), iterations=2)
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.ones(stack.hu.shape, np.bool_)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    grown = ndimage.binary_dilation(largest, np.ones((1, 3, 3), bool), iterations=2) & coarse
    filled = np.stack([ndimage.binary_fill_holes(layer) for layer in grown])
    body = np.repeat(np.repeat(filled, step[1], axis=1), step[2], axis=2)
    return np.asarray(body[:, : stack.hu.shape[1], : stack.hu.shape[2]], np.bool_)


def _spine_path(stack: _Stack, hu: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row and column (fractions of the stack's grid) of the spine in each layer."""
    step_y = max(1, round(_COARSE_MM / stack.y_mm))
    step_x = max(1, round(_COARSE_MM / stack.x_mm))
    coarse = hu[:, ::step_y, ::step_x]
    lower, upper = _BONE_HU
    bone = (np.clip(coarse, lower, upper) - lower) / (upper - lower)
    sigma = (
        _SPINE_SIGMA_MM / stack.z_mm,
        _SPINE_SIGMA_MM / (step_y * stack.y_mm),
        _SPINE_SIGMA_MM / (step_x * stack.x_mm),
    )
    response = ndimage.gaussian_filter(bone, sigma, mode="nearest", truncate=2.5)
    response *= _central_and_posterior(coarse > AIR_HU, step_y * stack.y_mm, step_x * stack.x_mm)
    path = _best_path(response / max(float(response.max()), 1e-6))
    smooth = ndimage.gaussian_filter1d(path, 12.0 / stack.z_mm, axis=0, mode="nearest")
    return np.asarray(smooth * (step_y, step_x), np.float64)


def _central_and_posterior(
    body: NDArray[np.bool_], y_mm: float, x_mm: float
) -> NDArray[np.float32]:
    """Weight, shape (layers, rows, columns), of where in a body its spine may lie."""
    weights = np.zeros(body.shape, np.float32)
    y, x = np.arange(body.shape[1]), np.arange(body.shape[2])
    area = body.sum(axis=(1, 2)) + 1e-6
    centre_y = np.median((body.sum(axis=2) @ y) / area)
    centre_x = np.median((body.sum(axis=1) @ x) / area)
    off_x = np.exp(-0.5 * ((x - centre_x) * x_mm / 35.0) ** 2)
    off_y = 1 / (1 + np.exp(-((y - centre_y) * y_mm - 5.0) / 10.0))
    weights[:] = off_y[:, None] * off_x[None, :]
    return weights


def _best_path(response: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row and column of the strongest path through all layers, one cell sideways per layer."""
    away = np.array([1.0, 0.0, 1.0], np.float32)
    moves = _MOVE_COST_YX[0] * away[:, None] + _MOVE_COST_YX[1] * away[None, :]
    totals = np.empty_like(response)
    totals[0] = response[0]
    for layer in range(1, len(response)):
        reached = ndimage.grey_dilation(totals[layer - 1], structure=-moves, mode="nearest")
        totals[layer] = response[layer] + reached
    position = np.array(np.unravel_index(np.argmax(totals[-1]), response.shape[1:]))
    path = np.empty((len(response), 2))
    path[-1] = position
    for layer in range(len(response) - 2, -1, -1):
        position = _step_back(totals[layer], position, moves)
        path[layer] = position
    return path


def _step_back(
    total: NDArray[np.float32], position: NDArray[np.intp], moves: NDArray[np.float32]
) -> NDArray[np.intp]:
    low = np.maximum(position - 1, 0)
    high = np.minimum(position + 2, total.shape)
    window = total[low[0] : high[0], low[1] : high[1]]
    cost = moves[low[0] - position[0] + 1 :, low[1] - position[1] + 1 :]
    value = window - cost[: window.shape[0], : window.shape[1]]
    return low + np.array(np.unravel_index(np.argmax(value), window.shape))


def _side(
    stack: _Stack, hu: NDArray[np.float32], spine_x: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Mean HU, shape (layers, y), of the slab round ``spine_x``."""
    half = max(1, round(_SLAB_HALF_WIDTH_MM / stack.x_mm))
    columns = np.clip(
        np.rint(spine_x).astype(int)[:, None] + np.arange(-half, half + 1), 0, hu.shape[2] - 1
    )
    slab = hu[np.arange(len(hu))[:, None], :, columns]
    return np.asarray(slab.mean(axis=1), np.float32)


def _front(
    stack: _Stack, hu: NDArray[np.float32], spine_y: NDArray[np.float64]
) -> tuple[NDArray[np.float32], ...]:
    """Maximum of the slab at the spine, maximum and mean of the body, each (layers, x)."""
    first, last = (round(mm / stack.y_mm) for mm in _BACK_SLAB_MM)
    rows = np.clip(
        np.rint(spine_y).astype(int)[:, None] + np.arange(first, last), 0, hu.shape[1] - 1
    )
    slab = hu[np.arange(len(hu))[:, None], rows]
    return slab.max(axis=1), hu.max(axis=1), hu.mean(axis=1, dtype=np.float32)


def _resampled(
    picture: NDArray[np.float32],
    grid: tuple[float, NDArray[np.floating]],
    wanted_mm: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Sample the columns of ``picture`` (layers, columns) at ``wanted_mm``; air outside."""
    step_mm, drift_mm = grid
    own = np.arange(picture.shape[1]) * step_mm
    lines = [
        np.interp(wanted_mm, own + drift, line, left=AIR_HU, right=AIR_HU)
        for line, drift in zip(picture, drift_mm, strict=True)
    ]
    return np.asarray(lines, np.float32)


def _layer_of_row(stack: _Stack) -> NDArray[np.float64]:
    """Layer, as a fraction, of each row; rows cover the layers from edge to edge."""
    rows = max(1, round(len(stack.hu) * stack.z_mm / ROW_MM))
    return np.asarray((np.arange(rows) + 0.5) * ROW_MM / stack.z_mm - 0.5, np.float64)


def _rows(picture: NDArray[np.float32], layer: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate ``picture`` (layers, columns) at fractions of layers."""
    positions = np.clip(layer, 0, len(picture) - 1)
    below = np.minimum(positions.astype(int), max(len(picture) - 2, 0))
    above = np.minimum(below + 1, len(picture) - 1)
    part = (positions - below).astype(np.float32)[:, None]
    return np.asarray(picture[below] * (1 - part) + picture[above] * part, np.float32)
