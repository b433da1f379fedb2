"""Builds the Structured Report of a measurement (PS3.16 TID 1500)."""

from collections.abc import Iterator
from typing import Final

import highdicom
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from pipeline.objects import codes, seg
from pipeline.objects.attributes import quiet
from pipeline.objects.comparison import change_since, change_text
from pipeline.objects.equipment import put_contributing_equipment
from pipeline.objects.frames import Frame, sop_class_uid, sop_instance_uid
from pipeline.objects.identity import (
    MANUFACTURER,
    MODEL_NAME,
    RESEARCH_NOTICE,
    UTF_8,
    PredecessorReport,
    ResultContext,
    derived_uid,
    describe_image,
    device_uid,
    level_frame,
    report_uid,
    stamp,
)
from pipeline.objects.spine import spine_outline
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import Analysis, Assessment, Measure

SERIES_NUMBER: Final = 951
SERIES_DESCRIPTION: Final = "AI SMA L3 report (RESEARCH)"

_MUSCLE: Final = next(tissue for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Report the numbers of the measured slice and what they were compared with.

    Two measurement groups share one tracking UID: the first refers to the segmentation and holds
    the numbers, the second outlines the vertebra on the source image. Viewers that cannot place a
    segmentation show the numbers on the second one's image.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        Comprehensive 3D SR, complete, preliminary and unverified, with file meta information.
    """
    frame = level_frame(analysis, context)
    with quiet():
        result = highdicom.sr.Comprehensive3DSR(
            evidence=[_evidence(analysis, frame), _segmentation(analysis, context, frame)],
            content=_report(analysis, context, frame)[0],
            series_instance_uid=report_uid(analysis, context, "sr series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=report_uid(analysis, context, "sr"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=True,
            is_final=False,
            is_verified=False,
            series_description=SERIES_DESCRIPTION,
            specific_character_set=UTF_8,
        )
        stamp(result, analysis, context)
        put_contributing_equipment(result, analysis, context)
        result.CodingSchemeIdentificationSequence = [local_scheme()]
        put_predecessor(result, context)
    return result


def assessments(analysis: Analysis) -> Iterator[tuple[Measure, Assessment]]:
    """List the verdicts: on the size of the muscle, then on its density when it was asked for."""
    size = analysis.assessment
    yield Measure.AREA if size.cutoff is None else size.cutoff.measure, size
    if analysis.attenuation_assessment is not None:
        yield Measure.ATTENUATION, analysis.attenuation_assessment


def local_scheme() -> Dataset:
    """Return the item that says whose our own codes are (PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.LOCAL_SCHEME
    item.CodingSchemeName = codes.LOCAL_SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def put_predecessor(result: Dataset, context: ResultContext) -> None:
    """Name the report that this one replaces, if any (PS3.3 C.17.2)."""
    if context.predecessor is not None:
        result.PredecessorDocumentsSequence = [_predecessor(context.predecessor)]


def _report(
    analysis: Analysis, context: ResultContext, frame: Frame
) -> highdicom.sr.MeasurementReport:
    return highdicom.sr.MeasurementReport(
        observation_context=_observation_context(context),
        procedure_reported=codes.CT_PROCEDURE,
        imaging_measurements=[
            _segment_group(analysis, context, frame),
            _outline_group(analysis, context, frame),
        ],
        title=Code("126000", "DCM", "Imaging Measurement Report"),
        language_of_content_item_and_descendants=(
            highdicom.sr.LanguageOfContentItemAndDescendants(
                highdicom.sr.CodedConcept.from_code(codes.ENGLISH)
            )
        ),
        referenced_images=[_evidence(analysis, frame)],
    )


def _observation_context(context: ResultContext) -> highdicom.sr.ObservationContext:
    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(context),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=context.uid_root_key[:64],
    )
    return highdicom.sr.ObservationContext(
        observer_device_context=highdicom.sr.ObserverContext(
            observer_type=highdicom.sr.CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=device,
        )
    )


def _segment_group(
    analysis: Analysis, context: ResultContext, frame: Frame
) -> highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    reference = highdicom.sr.ReferencedSegmentationFrame(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=_mask_uid(analysis, context),
        frame_number=_mask_frame(analysis, context),
        segment_number=1,
        source_image=highdicom.sr.SourceImageForSegmentation(
            sop_class_uid(frame.dataset), sop_instance_uid(frame.dataset), _frame_numbers(frame)
        ),
    )
    # A reference names frames or segments, never both (PS3.3 C.17.6); highdicom writes both.
    del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    group = highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(analysis, context),
        referenced_segment=reference,
        finding_type=codes.TISSUE_CONCEPTS[SKELETAL_MUSCLE].code,
        finding_category=codes.TISSUE,
        finding_sites=[highdicom.sr.FindingSite(codes.L3_VERTEBRA)],
        algorithm_id=_algorithm(analysis),
        measurements=[
            *_measurements(analysis),
            *_opinions(analysis),
            *_changes(analysis, context),
        ],
        qualitative_evaluations=[
            highdicom.sr.QualitativeEvaluation(
                codes.LOW_FINDINGS[measure], codes.VERDICTS[assessment.verdict]
            )
            for measure, assessment in assessments(analysis)
        ],
    )
    group[0].ContentSequence.extend(_remarks(analysis, context))
    return group


def _outline_group(
    analysis: Analysis, context: ResultContext, frame: Frame
) -> highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    region = highdicom.sr.ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=spine_outline(analysis.volume, analysis.composition.level.slice_index),
        source_image=highdicom.sr.SourceImageForRegion(
            sop_class_uid(frame.dataset), sop_instance_uid(frame.dataset), _frame_numbers(frame)
        ),
    )
    return highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(analysis, context),
        referenced_region=region,
        finding_type=codes.TISSUE_CONCEPTS[SKELETAL_MUSCLE].code,
        algorithm_id=_algorithm(analysis),
    )


def _mask_uid(analysis: Analysis, context: ResultContext) -> str:
    if context.reader is not None:
        return context.reader.sop_instance_uid
    return derived_uid(analysis, context, "seg")


def _mask_frame(analysis: Analysis, context: ResultContext) -> int:
    if context.reader is not None:
        return context.reader.frame_number
    return seg.frame_number(analysis, _MUSCLE, analysis.composition.level.slice_index)


def _tracking(analysis: Analysis, context: ResultContext) -> highdicom.sr.TrackingIdentifier:
    uid, identifier = "", ""
    if context.reader is not None:
        uid, identifier = context.reader.tracking_uid, context.reader.tracking_id
    return highdicom.sr.TrackingIdentifier(
        uid=uid or seg.tracking_uid(analysis, context, _MUSCLE),
        identifier=identifier or seg.tracking_id(analysis, _MUSCLE),
    )


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


def _measurements(analysis: Analysis) -> Iterator[highdicom.sr.Measurement]:
    muscle = analysis.composition.of(SKELETAL_MUSCLE)
    yield _number(codes.AREA, muscle.area_cm2, codes.SQUARE_CENTIMETRE)
    if muscle.mean_hu is not None:
        yield _number(codes.ATTENUATION, muscle.mean_hu, codes.HOUNSFIELD_UNIT, codes.MEAN)
    if muscle.sd_hu is not None:
        yield _number(
            codes.ATTENUATION, muscle.sd_hu, codes.HOUNSFIELD_UNIT, codes.STANDARD_DEVIATION
        )
    index = analysis.composition.skeletal_muscle_index_cm2_m2
    if index is not None:
        yield _number(codes.MUSCLE_INDEX, index, codes.INDEX_UNIT)
    if analysis.interval is not None:
        interval = analysis.interval
        yield _number(codes.AREA_LOWER_BOUND, interval.lower_cm2, codes.SQUARE_CENTIMETRE)
        yield _number(codes.AREA_UPPER_BOUND, interval.upper_cm2, codes.SQUARE_CENTIMETRE)
        if interval.coverage is not None:
            yield _number(codes.INTERVAL_COVERAGE, interval.coverage * 100, codes.PERCENT)
    for measure, assessment in assessments(analysis):
        if assessment.cutoff is not None:
            name, unit = codes.CUTOFFS[measure]
            yield _number(name, assessment.cutoff.value, unit)


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
    yield _number(codes.PRIOR_AREA, context.prior.area_cm2, codes.SQUARE_CENTIMETRE)
    yield _number(codes.AREA_CHANGE, change.percent, codes.PERCENT)
    if change.error_percent is not None:
        yield _number(codes.AREA_CHANGE_ERROR, change.error_percent, codes.PERCENT)


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


def _evidence(analysis: Analysis, frame: Frame) -> Dataset:
    image = describe_image(analysis, frame)
    image.SOPClassUID = sop_class_uid(frame.dataset)
    return image


def _segmentation(analysis: Analysis, context: ResultContext, frame: Frame) -> Dataset:
    reference = describe_image(analysis, frame)
    reference.SOPClassUID = SegmentationStorage
    reference.SOPInstanceUID = _mask_uid(analysis, context)
    reference.SeriesInstanceUID = (
        derived_uid(analysis, context, "seg series")
        if context.reader is None
        else context.reader.series_instance_uid
    )
    return reference


def _predecessor(report: PredecessorReport) -> Dataset:
    instance = Dataset()
    instance.ReferencedSOPClassUID = report.sop_class_uid
    instance.ReferencedSOPInstanceUID = report.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = report.series_instance_uid
    series.ReferencedSOPSequence = [instance]
    study = Dataset()
    study.StudyInstanceUID = report.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study
