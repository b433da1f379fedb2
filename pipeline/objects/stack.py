"""Chooses, among the slices of a series, those of one regular stack."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pipeline.errors import GeometryError
from pipeline.geometry import (
    SlicePlane,
    check_same_grid,
    heights_mm,
    longest_regular_run,
    same_position,
)
from pipeline.objects.attributes import DAMAGE, number, text
from pipeline.objects.eligibility import FEWEST_SLICES, plane_of
from pipeline.objects.frames import Frame, sop_instance_uid

_MOST: Final = 0.5
"""A stack with gaps is used when its longest regular run holds more than this share of slices."""


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """An image plane with its place; ``height_mm`` is measured along the common normal."""

    frame: Frame
    plane: SlicePlane
    height_mm: float


def regular_stack(frames: Sequence[Frame]) -> list[Slice]:
    """Order slices from the most inferior one and leave out what is not of one acquisition.

    Copies count once. Where positions repeat or distances differ, one acquisition is taken if it
    alone covers the whole range at equal distances: the first one. Otherwise the longest regular
    run is taken if it holds most of the slices.

    Raises
    ------
    MissingAttributeError, GeometryError
        A slice cannot be placed, or no regular stack is there.
    MixedSeriesError
        The slices are not parallel or differ in Pixel Spacing.
    """
    slices = _placed(frames)
    check_same_grid([one.plane for one in slices])
    slices = _without_copies(slices)
    for partition in _PARTITIONS:
        complete = [part for part in partition(slices) if _is_complete(part, slices)]
        if complete:
            return complete[0]
    return _longest_run(slices)


def _placed(frames: Sequence[Frame]) -> list[Slice]:
    planes = [plane_of(frame.header) for frame in frames]
    heights = heights_mm(planes)
    slices = [
        Slice(frame, plane, float(height))
        for frame, plane, height in zip(frames, planes, heights, strict=True)
    ]
    return sorted(slices, key=lambda one: (one.height_mm, *_stored_order(one)))


def _without_copies(slices: Sequence[Slice]) -> list[Slice]:
    kept: list[Slice] = []
    seen: set[tuple[str, int | None]] = set()
    for one in slices:
        identity = (sop_instance_uid(one.frame.dataset), one.frame.index)
        if identity in seen:
            continue
        seen.add(identity)
        if any(_is_copy(one, other) for other in _at_same_position(kept, one)):
            continue
        kept.append(one)
    return kept


def _at_same_position(ascending: Sequence[Slice], one: Slice) -> Iterable[Slice]:
    for other in reversed(ascending):
        if not same_position(other.height_mm, one.height_mm):
            return
        yield other


def _is_copy(one: Slice, other: Slice) -> bool:
    return one.frame.index is None and _pixel_digest(one) == _pixel_digest(other) != ""


def _pixel_digest(one: Slice) -> str:
    try:
        pixels = one.frame.dataset.get("PixelData")
    except DAMAGE:
        return ""
    return hashlib.sha256(pixels).hexdigest() if isinstance(pixels, bytes) else ""


def _whole(slices: Sequence[Slice]) -> list[list[Slice]]:
    return [list(slices)]


def _by_acquisition_number(slices: Sequence[Slice]) -> list[list[Slice]]:
    parts: dict[float, list[Slice]] = {}
    for one in slices:
        parts.setdefault(number(one.frame.header, "AcquisitionNumber") or 0.0, []).append(one)
    return [parts[key] for key in sorted(parts)]


def _by_time(slices: Sequence[Slice]) -> list[list[Slice]]:
    return _walk(sorted(slices, key=lambda one: (_time(one), *_stored_order(one))))


def _by_instance_number(slices: Sequence[Slice]) -> list[list[Slice]]:
    return _walk(sorted(slices, key=_stored_order))


def _walk(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Begin a new part where a position comes again."""
    parts: list[list[Slice]] = [[]]
    for one in slices:
        if any(same_position(one.height_mm, other.height_mm) for other in parts[-1]):
            parts.append([])
        parts[-1].append(one)
    return [sorted(part, key=lambda one: one.height_mm) for part in parts]


_PARTITIONS: Final[tuple[Callable[[Sequence[Slice]], list[list[Slice]]], ...]] = (
    _whole,
    _by_acquisition_number,
    _by_time,
    _by_instance_number,
)


def _is_complete(part: Sequence[Slice], everything: Sequence[Slice]) -> bool:
    if _repeats(part) or len(_regular(part)) < len(part):
        return False
    spacing_mm = part[1].height_mm - part[0].height_mm if len(part) > 1 else 0.0
    below_mm = part[0].height_mm - everything[0].height_mm
    above_mm = everything[-1].height_mm - part[-1].height_mm
    return max(below_mm, above_mm) <= spacing_mm


def _longest_run(slices: Sequence[Slice]) -> list[Slice]:
    if _repeats(slices):
        raise GeometryError(
            f"{len(slices)} slices lie at {_positions(slices)} positions, and no single "
            "acquisition covers the whole range at equal distances"
        )
    run = _regular(slices)
    if len(run) >= FEWEST_SLICES and len(run) > _MOST * len(slices):
        return run
    gaps_mm = [upper.height_mm - lower.height_mm for lower, upper in pairwise(slices)]
    raise GeometryError(
        f"the distance of neighbouring slices varies from {min(gaps_mm):.2f} to "
        f"{max(gaps_mm):.2f} mm; the longest regular run holds {len(run)} of {len(slices)} slices"
    )


def _regular(ascending: Sequence[Slice]) -> list[Slice]:
    run = longest_regular_run([one.height_mm for one in ascending])
    return list(ascending[run])


def _repeats(ascending: Sequence[Slice]) -> bool:
    return _positions(ascending) < len(ascending)


def _positions(ascending: Sequence[Slice]) -> int:
    repeated = sum(
        same_position(lower.height_mm, upper.height_mm) for lower, upper in pairwise(ascending)
    )
    return len(ascending) - repeated


def _stored_order(one: Slice) -> tuple[float, int, str]:
    return (
        number(one.frame.header, "InstanceNumber") or 0.0,
        one.frame.index or 0,
        sop_instance_uid(one.frame.dataset),
    )


def _time(one: Slice) -> str:
    header = one.frame.header
    return (
        text(header, "FrameAcquisitionDateTime")
        or text(header, "AcquisitionTime")
        or text(header, "ContentTime")
    )
