"""Labels from DICOM Segmentation (PS3.3 A.51) and RT Structure Set (PS3.3 A.19) objects.

Both are placed by their coordinates in the patient, so an object whose rows run the other way, or
that was drawn on a cropped grid, comes out right.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from pipeline.objects.attributes import quiet, text
from pipeline.types import CTVolume
from training import labels
from training.intake.found import Drawn, label_of_name

_OFF_SLICE: Final = 0.3
"""How far, in slices, a drawing may lie from the slice that it belongs to."""


def read_segmentation(seg: Dataset, volume: CTVolume, names: Mapping[str, int]) -> Drawn:
    """Read a SEG onto the grid of the images.

    Parameters
    ----------
    seg : Dataset
        Binary, fractional or label map.
    volume : CTVolume
    names : Mapping
        As for ``label_of_name``.
    """
    with quiet():
        wanted = _wanted_segments(seg, names)
        frames = np.atleast_3d(seg.pixel_array).reshape(-1, int(seg.Rows), int(seg.Columns))
        slices: dict[int, NDArray[np.uint8]] = {}
        faults: list[str] = []
        for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            grid = _frame_grid(seg, group)
            index, to_frame, fault = _place(grid, volume)
            faults += [fault] if fault else []
            for label, mask in _masks(seg, frame, group, wanted):
                drawn = slices.setdefault(index, np.zeros(volume.hu.shape[1:], np.uint8))
                drawn[_sample(mask, to_frame, drawn.shape)] = label
    return Drawn(_within(slices, volume, faults), whole=False, faults=tuple(sorted(set(faults))))


def read_structures(structures: Dataset, volume: CTVolume, names: Mapping[str, int]) -> Drawn:
    """Read closed planar contours of an RTSTRUCT onto the grid of the images.

    Contours of one region on one slice are combined by exclusive or, so a contour within another
    is a hole, and so is the inner side of a keyhole.
    """
    with quiet():
        titles = {
            int(roi.ROINumber): text(roi, "ROIName") for roi in structures.StructureSetROISequence
        }
        slices: dict[int, NDArray[np.uint8]] = {}
        faults: list[str] = []
        to_index: NDArray[np.float64] = np.linalg.inv(volume.affine).astype(np.float64)
        for roi in structures.get("ROIContourSequence", []):
            label = label_of_name(titles.get(int(roi.ReferencedROINumber), ""), names)
            if label is None:
                continue
            for index, region in _regions(roi, to_index, volume.hu.shape[1:], faults).items():
                drawn = slices.setdefault(index, np.zeros(volume.hu.shape[1:], np.uint8))
                drawn[region] = label
    return Drawn(_within(slices, volume, faults), whole=False, faults=tuple(sorted(set(faults))))


def fill_polygon(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose middle lies within a polygon, by the even-odd rule.

    Parameters
    ----------
    corners : NDArray[np.float64], shape (corners, 2)
        Row and column.
    shape : tuple[int, int]
    """
    filled = np.zeros(shape, dtype=bool)
    start, end = corners, np.roll(corners, -1, axis=0)
    columns = np.arange(shape[1])
    first = max(0, int(np.ceil(corners[:, 0].min())))
    last = min(shape[0] - 1, int(np.floor(corners[:, 0].max())))
    for row in range(first, last + 1):
        # Half open, so that a corner on the row counts once.
        crosses = (start[:, 0] <= row) != (end[:, 0] <= row)
        (r0, c0), (r1, c1) = start[crosses].T, end[crosses].T
        at = c0 + (row - r0) / (r1 - r0) * (c1 - c0)
        filled[row] = (np.count_nonzero(at[:, None] <= columns, axis=0) % 2).astype(bool)
    return filled


def _wanted_segments(seg: Dataset, names: Mapping[str, int]) -> dict[int, int]:
    wanted = {}
    for segment in seg.SegmentSequence:
        types = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
        titles = [text(segment, "SegmentLabel"), text(types[0], "CodeMeaning")]
        found = [label_of_name(title, names) for title in titles if title]
        if any(label is not None for label in found):
            label = next(label for label in found if label is not None)
            wanted[int(segment.SegmentNumber)] = label
    return wanted


def _masks(
    seg: Dataset, frame: NDArray[np.uint8], group: Dataset, wanted: Mapping[int, int]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the label and the mask of each segment of a frame."""
    if text(seg, "SegmentationType") == "LABELMAP":
        for number, label in wanted.items():
            yield label, frame == number
        return
    item = _group(seg, group, "SegmentIdentificationSequence")
    if (number := int(item.ReferencedSegmentNumber)) in wanted:
        half = int(seg.get("MaximumFractionalValue", 1)) / 2
        yield wanted[number], frame > half


def _group(seg: Dataset, group: Dataset, keyword: str) -> Dataset:
    """Find a functional group in the frame or, shared by all, in the object."""
    for place in (group, *seg.get("SharedFunctionalGroupsSequence", [])):
        if keyword in place:
            item: Dataset = place[keyword].value[0]
            return item
    raise ValueError(f"the segmentation has no {keyword}")


def _frame_grid(seg: Dataset, group: Dataset) -> NDArray[np.float64]:
    """Map (row, column, 1) of a frame to LPS millimetres, shape (4, 3)."""
    position = _group(seg, group, "PlanePositionSequence").ImagePositionPatient
    cosines = _group(seg, group, "PlaneOrientationSequence").ImageOrientationPatient
    spacing = _group(seg, group, "PixelMeasuresSequence").PixelSpacing
    grid = np.zeros((4, 3))
    grid[:3, 0] = np.array(cosines[3:], dtype=float) * float(spacing[0])
    grid[:3, 1] = np.array(cosines[:3], dtype=float) * float(spacing[1])
    grid[:3, 2] = np.array(position, dtype=float)
    grid[3, 2] = 1.0
    return grid


def _place(
    grid: NDArray[np.float64], volume: CTVolume
) -> tuple[int, NDArray[np.float64], str | None]:
    """Slice that a frame lies on, the map from its pixels to the frame's, and a fault."""
    to_index: NDArray[np.float64] = np.linalg.inv(volume.affine) @ grid
    middle = to_index[0, 2]
    index = round(float(middle))
    fault = None
    if abs(middle - index) > _OFF_SLICE or np.abs(to_index[0, :2]).max() * 512 > 1:
        fault = "a drawing lies between or across the slices of the images"
    elif not 0 <= index < volume.hu.shape[0]:
        fault = "a drawing lies outside of the images"
    plane = np.vstack([to_index[1:3], [0.0, 0.0, 1.0]])
    inverse: NDArray[np.float64] = np.linalg.inv(plane).astype(np.float64)
    return index, inverse, fault


def _sample(
    mask: NDArray[np.bool_], to_frame: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Read a frame at the pixels of the images, the nearest one."""
    if mask.shape == shape and np.allclose(to_frame, np.eye(3), atol=1e-2):
        return mask
    sampled: NDArray[np.uint8] = ndimage.affine_transform(
        mask.astype(np.uint8), to_frame[:2, :2], to_frame[:2, 2], shape, order=0
    )
    return sampled.astype(bool)


def _regions(
    roi: Dataset, to_index: NDArray[np.float64], shape: tuple[int, ...], faults: list[str]
) -> dict[int, NDArray[np.bool_]]:
    regions: dict[int, NDArray[np.bool_]] = {}
    for contour in roi.get("ContourSequence", []):
        if text(contour, "ContourGeometricType") != "CLOSED_PLANAR":
            continue
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        at = np.c_[points, np.ones(len(points))] @ to_index.T
        index = round(float(at[:, 0].mean()))
        if np.abs(at[:, 0] - index).max() > _OFF_SLICE:
            faults.append("a drawing lies between or across the slices of the images")
        region = regions.setdefault(index, np.zeros(shape, dtype=bool))
        region ^= fill_polygon(at[:, 1:3], (shape[0], shape[1]))
    return regions


def _within(
    slices: Mapping[int, NDArray[np.uint8]], volume: CTVolume, faults: list[str]
) -> dict[int, NDArray[np.uint8]]:
    inside = {i: drawn for i, drawn in slices.items() if 0 <= i < volume.hu.shape[0]}
    if len(inside) < len(slices):
        faults.append("a drawing lies outside of the images")
    return inside


def merge(drawings: Sequence[Drawn]) -> Drawn:
    """Lay drawings of one series over each other, later ones on top."""
    slices: dict[int, NDArray[np.uint8]] = {}
    for drawing in drawings:
        for index, drawn in drawing.slices.items():
            below = slices.get(index, np.zeros_like(drawn))
            slices[index] = np.where(drawn != labels.BACKGROUND, drawn, below)
    faults = tuple(sorted({fault for drawing in drawings for fault in drawing.faults}))
    return Drawn(slices, all(d.whole for d in drawings), faults)
