"""Builds the groups of numbers of a report (PS3.16 TID 1410 and 1501)."""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import highdicom
import numpy as np
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from pipeline.objects import codes, seg
from pipeline.objects.comparison import change_since, change_text
from pipeline.objects.frames import Frame, sop_class_uid, sop_instance_uid
from pipeline.objects.identity import (
    MANUFACTURER,
    RESEARCH_NOTICE,
    ReaderSegment,
    ResultContext,
    derived_uid,
)
from pipeline.objects.report_header import assessments
from pipeline.objects.spine import spine_outline
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES, Tissue
from pipeline.types import Analysis

_MUSCLE: Final = next(tissue for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)

Group = (
    highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | highdicom.sr.MeasurementsAndQualitativeEvaluations
)
_Group = TypeVar(
    "_Group",
    highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations,
    highdicom.sr.MeasurementsAndQualitativeEvaluations,
)


def groups_on_segments(analysis: Analysis, context: ResultContext, frame: Frame) -> list[Group]:
    """Return the groups of a report that refers to the segmentation.

    Numbers of muscle come first, with a reference to its segment; then the outline of the
    vertebra on the source image under the same tracking UID, on whose image viewers that cannot
    place a segmentation show them. The same for each kind of fat, but its outline lies on the
    frame of the segmentation: OHIF shows nothing at all of a report with a group that has no
    outline, and on the source image the numbers of fat would cover those of muscle.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext
    frame : Frame
        Of the measured slice.
    """
    groups: list[Group] = []
    for tissue in _stated_tissues(analysis, context):
        numbers = highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment(analysis, context, frame, tissue),
            **_about(analysis, context, tissue),
        )
        if tissue is _MUSCLE:
            groups += [_remarked(numbers, analysis, context), _vertebra(analysis, context, frame)]
        else:
            groups += [numbers, _extent(analysis, context, tissue)]
    return groups


def groups_on_images(analysis: Analysis, context: ResultContext, frame: Frame) -> list[Group]:
    """Do the same for who gets no segmentation: muscle alone, with a reference to the image."""
    muscle = highdicom.sr.MeasurementsAndQualitativeEvaluations(
        source_images=[
            highdicom.sr.SourceImageForMeasurementGroup(
                sop_class_uid(frame.dataset), sop_instance_uid(frame.dataset), _frame_numbers(frame)
            )
        ],
        **_about(analysis, context, _MUSCLE),
    )
    return [_remarked(muscle, analysis, context), _vertebra(analysis, context, frame)]


def segmentation_uid(analysis: Analysis, context: ResultContext) -> str:
    """Return the SOP Instance UID of the segmentation that was measured."""
    if context.reader is not None:
        return context.reader.sop_instance_uid
    return derived_uid(analysis, context, "seg")


def _vertebra(analysis: Analysis, context: ResultContext, frame: Frame) -> Group:
    """Outline the vertebra on the source image."""
    region = highdicom.sr.ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=spine_outline(analysis.volume, analysis.composition.level.slice_index),
        source_image=highdicom.sr.SourceImageForRegion(
            sop_class_uid(frame.dataset), sop_instance_uid(frame.dataset), _frame_numbers(frame)
        ),
    )
    return _outline(analysis, context, _MUSCLE, region)


def _extent(analysis: Analysis, context: ResultContext, tissue: Tissue) -> Group:
    """Draw a rectangle round a tissue on its frame of the segmentation."""
    labels = analysis.mask.slice_labels(analysis.composition.level.slice_index)
    rows, columns = (np.flatnonzero((labels == tissue.label).any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    region = highdicom.sr.ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=np.array(corners, dtype=np.float64),
        source_image=highdicom.sr.SourceImageForRegion(
            segmentation_class(context),
            segmentation_uid(analysis, context),
            [_frame_number(analysis, context, tissue)],
        ),
    )
    return _outline(analysis, context, tissue, region)


def _outline(
    analysis: Analysis, context: ResultContext, tissue: Tissue, region: highdicom.sr.ImageRegion
) -> Group:
    return highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(analysis, context, tissue),
        referenced_region=region,
        finding_type=codes.TISSUE_CONCEPTS[tissue.name].code,
        algorithm_id=_algorithm(analysis),
    )


def segmentation_class(context: ResultContext) -> str:
    """Return the SOP Class UID of the segmentation that was measured."""
    return SegmentationStorage if context.reader is None else context.reader.sop_class_uid


def _stated_tissues(analysis: Analysis, context: ResultContext) -> Iterator[Tissue]:
    """List muscle, then the other tissues that have a segment on the measured slice."""
    yield _MUSCLE
    labels = analysis.mask.slice_labels(analysis.composition.level.slice_index)
    for tissue in TISSUES:
        drawn = context.reader is None or context.reader.segment_of(tissue.name) is not None
        if tissue is not _MUSCLE and drawn and (labels == tissue.label).any():
            yield tissue


def _about(analysis: Analysis, context: ResultContext, tissue: Tissue) -> dict[str, Any]:
    """Return what a group says of its tissue, whatever it refers to."""
    is_muscle = tissue is _MUSCLE
    return {
        "tracking_identifier": _tracking(analysis, context, tissue),
        "finding_type": codes.TISSUE_CONCEPTS[tissue.name].code,
        "finding_category": codes.TISSUE,
        "finding_sites": [highdicom.sr.FindingSite(codes.L3_VERTEBRA)],
        "algorithm_id": _algorithm(analysis),
        "measurements": list(
            _muscle_measurements(analysis, context) if is_muscle else _sizes(analysis, tissue)
        ),
        "qualitative_evaluations": [
            highdicom.sr.QualitativeEvaluation(
                codes.LOW_FINDINGS[measure], codes.VERDICTS[assessment.verdict]
            )
            for measure, assessment in assessments(analysis)
            if is_muscle
        ],
    }


def _remarked(group: _Group, analysis: Analysis, context: ResultContext) -> _Group:
    group[0].ContentSequence.extend(_remarks(analysis, context))
    return group


def _segment(
    analysis: Analysis, context: ResultContext, frame: Frame, tissue: Tissue
) -> highdicom.sr.ReferencedSegmentationFrame:
    reference = highdicom.sr.ReferencedSegmentationFrame(
        sop_class_uid=segmentation_class(context),
        sop_instance_uid=segmentation_uid(analysis, context),
        frame_number=_frame_number(analysis, context, tissue),
        segment_number=1,
        source_image=highdicom.sr.SourceImageForSegmentation(
            sop_class_uid(frame.dataset), sop_instance_uid(frame.dataset), _frame_numbers(frame)
        ),
    )
    # A reference names frames or segments, never both (PS3.3 C.17.6); highdicom writes both.
    del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return reference


def _frame_number(analysis: Analysis, context: ResultContext, tissue: Tissue) -> int:
    drawn = _drawn(context, tissue)
    if drawn is not None:
        return drawn.frame_number
    return seg.frame_number(analysis, tissue, analysis.composition.level.slice_index)


def _tracking(
    analysis: Analysis, context: ResultContext, tissue: Tissue
) -> highdicom.sr.TrackingIdentifier:
    drawn = _drawn(context, tissue)
    uid, identifier = ("", "") if drawn is None else (drawn.tracking_uid, drawn.tracking_id)
    return highdicom.sr.TrackingIdentifier(
        uid=uid or seg.tracking_uid(analysis, context, tissue),
        identifier=identifier or seg.tracking_id(analysis, tissue),
    )


def _drawn(context: ResultContext, tissue: Tissue) -> ReaderSegment | None:
    return None if context.reader is None else context.reader.segment_of(tissue.name)


def _algorithm(analysis: Analysis) -> highdicom.sr.AlgorithmIdentification:
    segmenter = analysis.models[0]
    return highdicom.sr.AlgorithmIdentification(
        name=segmenter.name,
        version=segmenter.version,
        manufacturer=MANUFACTURER,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=[
            f"{model.name} {model.version} sha256 {model.sha256}" for model in analysis.models
        ],
    )


def _muscle_measurements(
    analysis: Analysis, context: ResultContext
) -> Iterator[highdicom.sr.Measurement]:
    """Give all that is said of muscle in numbers, what a reader asks first first.

    Viewers show the beginning of the list on the image, OHIF five numbers.
    """
    area, *attenuation = _sizes(analysis, _MUSCLE)
    changes = list(_changes(analysis, context))
    yield area
    yield from changes[:1]
    index = analysis.composition.skeletal_muscle_index_cm2_m2
    if index is not None:
        yield _number(codes.MUSCLE_INDEX, index, codes.INDEX_UNIT)
    yield from attenuation[:1]
    yield from _comparisons(analysis)
    yield from attenuation[1:]
    yield from changes[1:]
    yield from _opinions(analysis)


def _sizes(analysis: Analysis, tissue: Tissue) -> Iterator[highdicom.sr.Measurement]:
    size = analysis.composition.of(tissue.name)
    yield _number(codes.AREA, size.area_cm2, codes.SQUARE_CENTIMETRE)
    if size.mean_hu is not None:
        yield _number(codes.ATTENUATION, size.mean_hu, codes.HOUNSFIELD_UNIT, codes.MEAN)
    if size.sd_hu is not None:
        yield _number(
            codes.ATTENUATION, size.sd_hu, codes.HOUNSFIELD_UNIT, codes.STANDARD_DEVIATION
        )


def _comparisons(analysis: Analysis) -> Iterator[highdicom.sr.Measurement]:
    interval = analysis.interval
    if interval is not None:
        yield _number(codes.AREA_LOWER_BOUND, interval.lower_cm2, codes.SQUARE_CENTIMETRE)
        yield _number(codes.AREA_UPPER_BOUND, interval.upper_cm2, codes.SQUARE_CENTIMETRE)
    for measure, assessment in assessments(analysis):
        if assessment.cutoff is not None:
            name, unit = codes.CUTOFFS[measure]
            yield _number(name, assessment.cutoff.value, unit)
    if interval is not None and interval.coverage is not None:
        yield _number(codes.INTERVAL_COVERAGE, interval.coverage * 100, codes.PERCENT)


def _opinions(analysis: Analysis) -> Iterator[highdicom.sr.Measurement]:
    opinion = analysis.second_opinion
    if opinion is None:
        return
    model = opinion.model
    yield highdicom.sr.Measurement(
        name=codes.LOW_PROBABILITY,
        value=round(opinion.probability * 100, 2),
        unit=codes.PERCENT,
        algorithm_id=highdicom.sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            parameters=[
                f"{model.name} {model.version} sha256 {model.sha256}",
                f"low from {opinion.threshold * 100:g} %",
            ],
        ),
    )


def _changes(analysis: Analysis, context: ResultContext) -> Iterator[highdicom.sr.Measurement]:
    if context.prior is None:
        return
    change = change_since(analysis, context.prior)
    yield _number(codes.AREA_CHANGE, change.percent, codes.PERCENT)
    if change.error_percent is not None:
        yield _number(codes.AREA_CHANGE_ERROR, change.error_percent, codes.PERCENT)
    yield _number(codes.PRIOR_AREA, context.prior.area_cm2, codes.SQUARE_CENTIMETRE)


def _number(
    name: Code, value: float, unit: Code, derivation: Code | None = None
) -> highdicom.sr.Measurement:
    # Two decimals are more than the measurement is worth, and fit into 16 characters.
    return highdicom.sr.Measurement(
        name=name, value=round(float(value), 2), unit=unit, derivation=derivation
    )


def _remarks(
    analysis: Analysis, context: ResultContext
) -> Iterator[highdicom.sr.TextContentItem | highdicom.sr.DateContentItem]:
    yield _text(codes.INTENDED_USE, RESEARCH_NOTICE)
    for _, assessment in assessments(analysis):
        yield _text(codes.REASON, assessment.reason)
        if assessment.cutoff is not None:
            said = f"{assessment.cutoff.citation}. Derived from: {assessment.cutoff.population}"
            yield _text(codes.CITATION, said)
    if context.prior is not None:
        yield highdicom.sr.DateContentItem(
            name=codes.PRIOR_DATE, value=context.prior.study_date, relationship_type="CONTAINS"
        )
        yield _text(codes.COMPARISON, change_text(change_since(analysis, context.prior)))
    for flag in analysis.quality:
        yield _text(codes.QUALITY_REMARK, f"{flag.severity.upper()} {flag.code}: {flag.message}")


def _text(name: Code, value: str) -> highdicom.sr.TextContentItem:
    return highdicom.sr.TextContentItem(name=name, value=value, relationship_type="CONTAINS")


def _frame_numbers(frame: Frame) -> list[int] | None:
    return None if frame.index is None else [frame.index + 1]
