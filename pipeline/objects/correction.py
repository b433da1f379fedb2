"""Reads a segmentation that a reader corrected, onto the slices that it was drawn on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.errors import CorrectionError
from pipeline.objects.attributes import DAMAGE, quiet, text
from pipeline.objects.codes import TISSUE_CONCEPTS
from pipeline.objects.frames import Frame, frames_of, sop_class_uid, sop_instance_uid
from pipeline.objects.identity import ReaderSegment, ReaderSegmentation
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES, Tissue
from pipeline.types import CTVolume

_SAME_PLACE_MM: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class DrawnTissue:
    """What a reader drew of one tissue on one slice.

    Parameters
    ----------
    mask : NDArray[np.bool_], shape (rows, columns)
        On the grid of the stored image.
    frame_number : int
        One-based, in the segmentation.
    segment_number : int
    """

    mask: NDArray[np.bool_]
    frame_number: int
    segment_number: int


Drawing = Mapping[int, Mapping[str, DrawnTissue]]
"""Index of a slice of the volume to what was drawn on it, by tissue."""


def read_drawing(segmentation: Dataset, volume: CTVolume) -> Drawing:
    """Read the tissues of a segmentation, binary or a label map.

    A segment is a tissue by its coded property type or, failing that, by its label: viewers that
    change segments often lose the code. Other segments are left out.

    Parameters
    ----------
    segmentation : Dataset
        Segmentation Storage or Label Map Segmentation Storage, with pixel data.
    volume : CTVolume
        The series that it refers to.

    Returns
    -------
    Drawing
        Slices with at least one pixel of a tissue.

    Raises
    ------
    CorrectionError
        It is fractional, cannot be decoded, or does not lie on the pixels of the series.
    """
    kind = text(segmentation, "SegmentationType")
    if kind not in {"BINARY", "LABELMAP"}:
        raise CorrectionError("the segmentation is neither binary nor a label map")
    tissues = _tissues(segmentation)
    pixels = _pixels(segmentation, volume)
    slices = {source.sop_instance_uid: i for i, source in enumerate(volume.sources)}
    drawing: dict[int, dict[str, DrawnTissue]] = {}
    for frame, values in zip(frames_of([segmentation]), pixels, strict=True):
        for number, tissue in tissues.items():
            if kind == "BINARY":
                mask = (values > 0) & (_segment_number(frame) == number)
            else:
                mask = values == number
            if not mask.any():
                continue
            index = _slice_index(frame, slices, volume)
            drawn = DrawnTissue(mask, (frame.index or 0) + 1, number)
            drawing.setdefault(index, {})[tissue.name] = drawn
    return drawing


def reader_segmentation(
    segmentation: Dataset, drawn: Mapping[str, DrawnTissue]
) -> ReaderSegmentation:
    """Describe the segmentation to the report that refers to it.

    Parameters
    ----------
    segmentation : Dataset
    drawn : mapping of str to DrawnTissue
        What was drawn on the measured slice.
    """
    return ReaderSegmentation(
        series_instance_uid=text(segmentation, "SeriesInstanceUID"),
        sop_instance_uid=sop_instance_uid(segmentation),
        sop_class_uid=str(sop_class_uid(segmentation)),
        segments=tuple(_reader_segment(segmentation, tissue, one) for tissue, one in drawn.items()),
    )


def _reader_segment(segmentation: Dataset, tissue: str, drawn: DrawnTissue) -> ReaderSegment:
    segment = next(
        one
        for one in segmentation.SegmentSequence
        if int(one.SegmentNumber) == drawn.segment_number
    )
    return ReaderSegment(
        tissue, drawn.frame_number, text(segment, "TrackingUID"), text(segment, "TrackingID")
    )


def _tissues(segmentation: Dataset) -> dict[int, Tissue]:
    found = {
        int(segment.SegmentNumber): tissue
        for segment in segmentation.get("SegmentSequence") or ()
        if (tissue := _tissue_of(segment)) is not None
    }
    if SKELETAL_MUSCLE not in {tissue.name for tissue in found.values()}:
        raise CorrectionError("no segment of the segmentation is skeletal muscle")
    return found


def _tissue_of(segment: Dataset) -> Tissue | None:
    codes = {
        (text(code, "CodingSchemeDesignator"), text(code, "CodeValue"))
        for code in segment.get("SegmentedPropertyTypeCodeSequence") or ()
    }
    label = text(segment, "SegmentLabel").casefold()
    concepts = [(tissue, TISSUE_CONCEPTS[tissue.name]) for tissue in TISSUES]
    for tissue, concept in concepts:
        if (concept.code.scheme_designator, concept.code.value) in codes:
            return tissue
    return next((tissue for tissue, concept in concepts if concept.label.casefold() == label), None)


def _pixels(segmentation: Dataset, volume: CTVolume) -> NDArray[np.integer[Any]]:
    try:
        with quiet():
            pixels: NDArray[np.integer[Any]] = np.asarray(segmentation.pixel_array)
    except DAMAGE as error:
        raise CorrectionError(
            f"the segmentation cannot be decoded ({type(error).__name__})"
        ) from error
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    if pixels.shape[1:] != volume.hu.shape[1:]:
        raise CorrectionError(
            f"the segmentation has {pixels.shape[1]} x {pixels.shape[2]} pixels, "
            f"the series {volume.hu.shape[1]} x {volume.hu.shape[2]}"
        )
    return pixels


def _segment_number(frame: Frame) -> int:
    return int(frame.header.get("ReferencedSegmentNumber") or 0)


def _slice_index(frame: Frame, slices: Mapping[str, int], volume: CTVolume) -> int:
    """Slice that a frame lies on: the one that it names, or else the one at its place."""
    places = volume.affine[:3, 3] + np.arange(len(volume.sources))[:, None] * volume.affine[:3, 0]
    position = _numbers(frame, "ImagePositionPatient", 3)
    distances_mm = np.linalg.norm(places - position, axis=1)
    nearest = int(distances_mm.argmin())
    named = [slices[uid] for uid in _source_uids(frame) if uid in slices]
    # In enhanced images one object holds every slice, so that only the place tells.
    index = named[0] if named and len(slices) == len(volume.sources) else nearest
    if distances_mm[index] > _SAME_PLACE_MM or not _same_directions(frame, volume):
        raise CorrectionError("the segmentation does not lie on the pixels of the series")
    return index


def _source_uids(frame: Frame) -> Iterator[str]:
    for source in frame.header.get("SourceImageSequence") or ():
        yield text(source, "ReferencedSOPInstanceUID")


def _same_directions(frame: Frame, volume: CTVolume) -> bool:
    along_row, along_column = _numbers(frame, "ImageOrientationPatient", 6).reshape(2, 3)
    spacing = _numbers(frame, "PixelSpacing", 2)
    rows, columns = volume.hu.shape[1:]
    # How far the last pixel is from where the series has it.
    off_mm = max(
        np.linalg.norm(along_column * spacing[0] - volume.affine[:3, 1]) * rows,
        np.linalg.norm(along_row * spacing[1] - volume.affine[:3, 2]) * columns,
    )
    return bool(off_mm <= _SAME_PLACE_MM * 10)


def _numbers(frame: Frame, keyword: str, count: int) -> NDArray[np.float64]:
    values: Sequence[object] = frame.header.get(keyword) or ()
    if len(values) != count:
        raise CorrectionError(f"the segmentation has no {keyword}")
    return np.array([float(str(value)) for value in values])
