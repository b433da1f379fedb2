"""Builds the Structured Report of a measurement (PS3.16 TID 1500)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import highdicom
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from pipeline.objects import codes
from pipeline.objects.attributes import quiet
from pipeline.objects.equipment import put_contributing_equipment
from pipeline.objects.frames import Frame, sop_class_uid
from pipeline.objects.identity import (
    MANUFACTURER,
    MODEL_NAME,
    UTF_8,
    ResultContext,
    derived_uid,
    describe_image,
    device_uid,
    level_frame,
    report_uid,
    stamp,
)
from pipeline.objects.measurement_groups import (
    Group,
    groups_on_images,
    groups_on_segments,
    segmentation_class,
    segmentation_uid,
)
from pipeline.objects.report_header import local_scheme, put_predecessor
from pipeline.objects.skeleton import ResultSeries
from pipeline.types import Analysis

SERIES: Final = ResultSeries("SR", 951, "AI SMA L3 report (RESEARCH)")
SERIES_ALONE: Final = ResultSeries("SR", 953, "AI SMA L3 report without SEG (RESEARCH)")


@dataclass(frozen=True, slots=True)
class _Content:
    """What one kind of report consists of.

    Parameters
    ----------
    kind : str
        Tells the UIDs of two kinds apart.
    series : ResultSeries
    groups : sequence of Group
    evidence : sequence of Dataset
        What the groups refer to.
    """

    kind: str
    series: ResultSeries
    groups: Sequence[Group]
    evidence: Sequence[Dataset]


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Report the numbers of the measured slice and what they were compared with.

    Every number refers to the segment that it was measured on.

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
        evidence = [_evidence(analysis, frame), _segmentation(analysis, context, frame)]
        groups = groups_on_segments(analysis, context, frame)
        return _document(analysis, context, _Content("sr", SERIES, groups, evidence))


def build_alone(analysis: Analysis, context: ResultContext) -> Dataset:
    """Report the same to who gets no segmentation: it refers to the source image only.

    A reference to an object that an archive does not hold is an error that viewers show as one.
    """
    context = replace(context, predecessor=context.predecessor_alone or context.predecessor)
    frame = level_frame(analysis, context)
    with quiet():
        groups = groups_on_images(analysis, context, frame)
        evidence = [_evidence(analysis, frame)]
        return _document(analysis, context, _Content("sr alone", SERIES_ALONE, groups, evidence))


def _document(analysis: Analysis, context: ResultContext, content: _Content) -> Dataset:
    frame = level_frame(analysis, context)
    result = highdicom.sr.Comprehensive3DSR(
        evidence=content.evidence,
        content=_report(analysis, context, frame, content.groups)[0],
        series_instance_uid=report_uid(analysis, context, f"{content.kind} series"),
        series_number=content.series.number,
        sop_instance_uid=report_uid(analysis, context, content.kind),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=content.series.description,
        specific_character_set=UTF_8,
    )
    stamp(result, analysis, context)
    put_contributing_equipment(result, analysis, context)
    result.CodingSchemeIdentificationSequence = [local_scheme()]
    put_predecessor(result, context)
    return result


def _report(
    analysis: Analysis, context: ResultContext, frame: Frame, groups: Sequence[Group]
) -> highdicom.sr.MeasurementReport:
    return highdicom.sr.MeasurementReport(
        observation_context=_observation_context(context),
        procedure_reported=codes.CT_PROCEDURE,
        imaging_measurements=groups,
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


def _evidence(analysis: Analysis, frame: Frame) -> Dataset:
    image = describe_image(analysis, frame)
    image.SOPClassUID = sop_class_uid(frame.dataset)
    return image


def _segmentation(analysis: Analysis, context: ResultContext, frame: Frame) -> Dataset:
    reference = describe_image(analysis, frame)
    reference.SOPClassUID = segmentation_class(context)
    reference.SOPInstanceUID = segmentation_uid(analysis, context)
    reference.SeriesInstanceUID = (
        derived_uid(analysis, context, "seg series")
        if context.reader is None
        else context.reader.series_instance_uid
    )
    return reference
