"""Builds the DICOM Segmentation of a measured slice (PS3.3 A.51)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.objects.attributes import quiet
from pipeline.objects.codes import (
    ARTIFICIAL_INTELLIGENCE,
    L3_VERTEBRA,
    TISSUE,
    TISSUE_CONCEPTS,
)
from pipeline.objects.equipment import put_contributing_equipment
from pipeline.objects.frames import Frame, sop_class_uid
from pipeline.objects.identity import (
    MANUFACTURER,
    MODEL_NAME,
    UTF_8,
    ResultContext,
    derived_uid,
    describe_image,
    frame_of,
    stamp,
)
from pipeline.objects.skeleton import ResultSeries
from pipeline.tissues import TISSUES, Tissue
from pipeline.types import Analysis


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way of storing a mask.

    Parameters
    ----------
    name : str
        Tells the UIDs of two encodings apart.
    segmentation_type : str
        ``"BINARY"`` or ``"LABELMAP"``.
    series : ResultSeries
    """

    name: str
    segmentation_type: str
    series: ResultSeries


BINARY: Final = Encoding("seg", "BINARY", ResultSeries("SEG", 901, "AI SMA L3 SEG (RESEARCH)"))


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Encode the mask as a binary segmentation of the source slices.

    Only tissues with pixels become segments and only slices with pixels become frames.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        Segmentation Storage, explicit VR little endian, with file meta information.

    Raises
    ------
    ValueError
        The mask is empty: a segmentation without pixels is never sent.
    """
    return encode(analysis, context, BINARY)


def encode(analysis: Analysis, context: ResultContext, encoding: Encoding) -> Dataset:
    """Do what ``build`` does, in any encoding.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    if not segmented_tissues(analysis):
        raise ValueError("the mask is empty, there is nothing to encode")
    sources = analysis.volume.sources
    frames = [frame_of(context, sources[index]) for index in mask_slices(analysis)]
    with quiet():
        result = _segmentation(analysis, context, frames, encoding)
        stamp(result, analysis, context)
        put_contributing_equipment(result, analysis, context)
        result.BodyPartExamined = "ABDOMEN"
        result.ContentCreatorName = None
        result.ContentQualification = "RESEARCH"
        _fix_organization(result, derived_uid(analysis, context, f"{encoding.name} dimensions"))
        _fix_spacing(result, analysis.volume.slice_spacing_mm)
        _refer_to_frames(result, frames)
    return result


def segmented_tissues(analysis: Analysis) -> list[Tissue]:
    """List the tissues that become segments 1, 2, ... of the SEG."""
    return [tissue for tissue in TISSUES if (analysis.mask.labels == tissue.label).any()]


def mask_slices(analysis: Analysis) -> list[int]:
    """List the slices of the volume on which a tissue lies, in ascending order."""
    filled = analysis.mask.labels.any(axis=(1, 2))
    return [int(index) + analysis.mask.first_slice_index for index in np.flatnonzero(filled)]


def tracking_uid(analysis: Analysis, context: ResultContext, tissue: Tissue) -> str:
    """Return the UID that ties a segment to its measurements."""
    return derived_uid(analysis, context, f"tracking {tissue.name}")


def tracking_id(analysis: Analysis, tissue: Tissue) -> str:
    """Return the readable counterpart of ``tracking_uid``."""
    return f"{TISSUE_CONCEPTS[tissue.name].label} {analysis.composition.level.name}"


def frame_number(analysis: Analysis, tissue: Tissue, slice_index: int) -> int:
    """Return the one-based frame of the SEG that shows a tissue on a slice of the volume.

    Frames are ordered by segment, then by slice.

    Raises
    ------
    ValueError
        There is no such frame.
    """
    order = [
        (other.name, index)
        for other in segmented_tissues(analysis)
        for index in mask_slices(analysis)
        if (analysis.mask.slice_labels(index) == other.label).any()
    ]
    return order.index((tissue.name, slice_index)) + 1


def _segmentation(
    analysis: Analysis, context: ResultContext, frames: Sequence[Frame], encoding: Encoding
) -> highdicom.seg.Segmentation:
    return highdicom.seg.Segmentation(
        source_images=[describe_image(analysis, frame) for frame in frames],
        pixel_array=_pixels(analysis),
        segmentation_type=encoding.segmentation_type,
        segment_descriptions=_descriptions(analysis, context),
        series_instance_uid=derived_uid(analysis, context, f"{encoding.name} series"),
        series_number=encoding.series.number,
        sop_instance_uid=derived_uid(analysis, context, encoding.name),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_version,
        device_serial_number=context.uid_root_key[:64],
        content_label="SMA_L3",
        content_description="Skeletal muscle and fat at L3 (AI, research use)",
        series_description=encoding.series.description,
        specific_character_set=UTF_8,
    )


def _pixels(analysis: Analysis) -> NDArray[np.uint8]:
    labels = np.stack([analysis.mask.slice_labels(index) for index in mask_slices(analysis)])
    segments = np.zeros(labels.shape, dtype=np.uint8)
    for segment, tissue in enumerate(segmented_tissues(analysis), start=1):
        segments[labels == tissue.label] = segment
    return segments


def _descriptions(
    analysis: Analysis, context: ResultContext
) -> list[highdicom.seg.SegmentDescription]:
    segmenter = analysis.models[0]
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=segmenter.name,
        family=ARTIFICIAL_INTELLIGENCE,
        version=segmenter.version,
        source=MANUFACTURER,
        parameters={"weights_sha256": segmenter.sha256},
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=TISSUE_CONCEPTS[tissue.name].label,
            segmented_property_category=TISSUE,
            segmented_property_type=TISSUE_CONCEPTS[tissue.name].code,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=tracking_uid(analysis, context, tissue),
            tracking_id=tracking_id(analysis, tissue),
            anatomic_regions=[L3_VERTEBRA],
            display_color=highdicom.color.CIELabColor.from_rgb(
                *TISSUE_CONCEPTS[tissue.name].colour
            ),
        )
        for number, tissue in enumerate(segmented_tissues(analysis), start=1)
    ]


def _fix_organization(result: Dataset, uid: str) -> None:
    # highdicom draws it at random, which would make two runs differ.
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _fix_spacing(result: Dataset, slice_spacing_mm: float) -> None:
    # highdicom guesses 1 mm for a single frame.
    measures = result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = round(slice_spacing_mm, 4)


def _refer_to_frames(result: Dataset, frames: Sequence[Frame]) -> None:
    """Name the frames of multi-frame sources, which were described as single images."""
    if frames[0].index is None:
        return
    by_position = {tuple(frame.header.ImagePositionPatient): frame for frame in frames}
    for group in result.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0].ImagePositionPatient
        frame = by_position[tuple(position)]
        for source in _sources_of(group):
            source.ReferencedSOPClassUID = sop_class_uid(frame.dataset)
            source.ReferencedFrameNumber = (frame.index or 0) + 1
    series = result.ReferencedSeriesSequence[0]
    series.ReferencedInstanceSequence = _without_repeats(series.ReferencedInstanceSequence, frames)
    result.SourceImageSequence = _without_repeats(result.SourceImageSequence, frames)


def _without_repeats(items: Sequence[Dataset], frames: Sequence[Frame]) -> list[Dataset]:
    references: dict[str, Dataset] = {}
    for item in items:
        item.ReferencedSOPClassUID = sop_class_uid(frames[0].dataset)
        references.setdefault(item.ReferencedSOPInstanceUID, item)
    return list(references.values())


def _sources_of(group: Dataset) -> Iterator[Dataset]:
    for derivation in group.DerivationImageSequence:
        yield from derivation.SourceImageSequence
