"""Builds the RT Structure Set for systems that show contours, not masks (PS3.3 A.19)."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from pipeline.objects.attributes import quiet, text
from pipeline.objects.codes import TISSUE_CONCEPTS
from pipeline.objects.contours import outlines
from pipeline.objects.equipment import put_contributing_equipment
from pipeline.objects.frames import Frame
from pipeline.objects.identity import ResultContext, derived_uid, frame_of, level_frame, stamp
from pipeline.objects.seg import mask_slices, segmented_tissues
from pipeline.objects.skeleton import ResultSeries, begin, image_reference
from pipeline.tissues import Tissue
from pipeline.types import Analysis

SERIES: Final = ResultSeries("RTSTRUCT", 981, "AI SMA L3 contours (RESEARCH)")

_DETACHED_STUDY: Final = "1.2.840.10008.3.1.2.3.1"


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Draw each tissue as closed contours along the edges of its pixels.

    Holes are contours of their own inside the outer one; a reader that takes the exclusive
    disjunction of both, as most do, gets the area of the mask exactly.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        RT Structure Set Storage, unapproved, with file meta information.
    """
    frame = level_frame(analysis, context)
    with quiet():
        result = begin(
            RTStructureSetStorage,
            SERIES,
            derived_uid(analysis, context, "rtstruct series"),
            derived_uid(analysis, context, "rtstruct"),
            frame.dataset,
        )
        stamp(result, analysis, context)
        put_contributing_equipment(result, analysis, context)
        result.OperatorsName = None
        result.StructureSetLabel = "SMA_L3"
        result.StructureSetDescription = "Computed without human review. Research use only."
        result.StructureSetDate = result.ContentDate
        result.StructureSetTime = result.ContentTime
        result.ApprovalStatus = "UNAPPROVED"
        result.FrameOfReferenceUID = text(frame.dataset, "FrameOfReferenceUID")
        result.PositionReferenceIndicator = text(frame.dataset, "PositionReferenceIndicator")
        _put_references(result, analysis, context)
        _put_tissues(result, analysis, context)
    return result


def _put_references(result: Dataset, analysis: Analysis, context: ResultContext) -> None:
    frames = [frame_of(context, analysis.volume.sources[index]) for index in mask_slices(analysis)]
    series = Dataset()
    series.SeriesInstanceUID = analysis.volume.series_instance_uid
    series.ContourImageSequence = [image_reference(frame) for frame in frames]
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY
    study.ReferencedSOPInstanceUID = result.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = result.FrameOfReferenceUID
    item.RTReferencedStudySequence = [study]
    result.ReferencedFrameOfReferenceSequence = [item]


def _put_tissues(result: Dataset, analysis: Analysis, context: ResultContext) -> None:
    tissues = list(enumerate(segmented_tissues(analysis), start=1))
    result.StructureSetROISequence = [
        _roi(number, tissue, analysis, result.FrameOfReferenceUID) for number, tissue in tissues
    ]
    result.ROIContourSequence = [
        _contours(number, tissue, analysis, context) for number, tissue in tissues
    ]
    result.RTROIObservationsSequence = [_observation(number) for number, _ in tissues]


def _roi(number: int, tissue: Tissue, analysis: Analysis, frame_of_reference: str) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = frame_of_reference
    item.ROIName = TISSUE_CONCEPTS[tissue.name].label
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    segmenter = analysis.models[0]
    item.ROIGenerationDescription = f"{segmenter.name} {segmenter.version}"[:64]
    return item


def _observation(number: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = "ORGAN"
    item.ROIInterpreter = None
    return item


def _contours(number: int, tissue: Tissue, analysis: Analysis, context: ResultContext) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(TISSUE_CONCEPTS[tissue.name].colour)
    item.ReferencedROINumber = number
    item.ContourSequence = list(_closed_contours(tissue, analysis, context))
    return item


def _closed_contours(
    tissue: Tissue, analysis: Analysis, context: ResultContext
) -> Iterator[Dataset]:
    number = 0
    for index in mask_slices(analysis):
        frame = frame_of(context, analysis.volume.sources[index])
        for corners in outlines(analysis.mask.slice_labels(index) == tissue.label):
            number += 1
            yield _contour(number, _in_patient_mm(corners, index, analysis), frame)


def _contour(number: int, points_mm: NDArray[np.float64], frame: Frame) -> Dataset:
    item = Dataset()
    item.ContourNumber = number
    item.ContourImageSequence = [image_reference(frame)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points_mm)
    item.ContourData = [f"{value:.4f}" for value in points_mm.ravel()]
    return item


def _in_patient_mm(
    corners: NDArray[np.int64], index: int, analysis: Analysis
) -> NDArray[np.float64]:
    # The affine counts from the middles of pixels.
    rows, columns = corners.T - 0.5
    places = np.stack([np.full(len(rows), float(index)), rows, columns, np.ones(len(rows))])
    points: NDArray[np.float64] = (analysis.volume.affine @ places)[:3].T
    return points
