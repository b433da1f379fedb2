"""Traces the outlines of a mask along the edges of its pixels."""

import numpy as np
from numpy.typing import NDArray

_Corner = tuple[int, int]


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """List the closed outlines of a mask, of its holes too.

    Corners of pixels are counted: corner (0, 0) is the outer corner of pixel (0, 0). Outer
    outlines and those of holes turn in opposite directions, so that their signed areas sum up to
    the number of pixels. Pixels that touch at a corner only belong to different outlines.

    Parameters
    ----------
    mask : NDArray[np.bool_], shape (rows, columns)

    Returns
    -------
    list of NDArray[np.int64], shape (corners, 2)
        Row and column where an outline turns; the last corner is joined to the first.
    """
    edges = _edges(mask)
    found = []
    while edges:
        start = next(iter(edges))
        found.append(_turns(_walk(edges, start)))
    return found


def _edges(mask: NDArray[np.bool_]) -> dict[_Corner, list[_Corner]]:
    """Map each corner to where the edges that leave it lead; the mask lies to their right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (0, 1)),  # above: to the right
        (inside & ~padded[1:-1, 2:], (0, 1), (1, 1)),  # right: downwards
        (inside & ~padded[2:, 1:-1], (1, 1), (1, 0)),  # below: to the left
        (inside & ~padded[1:-1, :-2], (1, 0), (0, 0)),  # left: upwards
    )
    edges: dict[_Corner, list[_Corner]] = {}
    for border, start, end in sides:
        for row, column in np.argwhere(border).tolist():
            corner = (row + start[0], column + start[1])
            edges.setdefault(corner, []).append((row + end[0], column + end[1]))
    return dict(sorted(edges.items()))


def _walk(edges: dict[_Corner, list[_Corner]], start: _Corner) -> list[_Corner]:
    path = [start]
    here, came_from = start, None
    while True:
        here, came_from = _take(edges, here, came_from), here
        if here == start:
            return path
        path.append(here)


def _take(edges: dict[_Corner, list[_Corner]], here: _Corner, came_from: _Corner | None) -> _Corner:
    choices = edges[here]
    chosen = choices[0]
    if len(choices) > 1 and came_from is not None:
        # Two pixels touch at this corner: turning right stays with the same one.
        down, right = here[0] - came_from[0], here[1] - came_from[1]
        to_the_right = (here[0] + right, here[1] - down)
        chosen = to_the_right if to_the_right in choices else chosen
    choices.remove(chosen)
    if not choices:
        del edges[here]
    return chosen


def _turns(path: list[_Corner]) -> NDArray[np.int64]:
    corners = np.array(path, dtype=np.int64)
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turning: NDArray[np.int64] = corners[(before != after).any(axis=1)]
    return turning
