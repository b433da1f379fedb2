"""Builds Basic Text SR, which old systems show as a page of text (PS3.3 A.35.1)."""

from collections.abc import Iterator, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage

from pipeline.objects import codes
from pipeline.objects.attributes import quiet
from pipeline.objects.comparison import change_since, change_text
from pipeline.objects.equipment import coded, put_contributing_equipment
from pipeline.objects.frames import Frame
from pipeline.objects.identity import (
    MANUFACTURER,
    MODEL_NAME,
    RESEARCH_NOTICE,
    ResultContext,
    device_uid,
    level_frame,
    report_uid,
    stamp,
)
from pipeline.objects.report_header import assessments, local_scheme, put_predecessor
from pipeline.objects.skeleton import ResultSeries, begin, image_reference
from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Analysis

SERIES: Final = ResultSeries("SR", 955, "AI SMA L3 text (RESEARCH)")

_FINDINGS: Final = Code("121070", "DCM", "Findings")
_FINDING: Final = Code("121071", "DCM", "Finding")
_SOURCE: Final = Code("260753009", "SCT", "Source")


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Say in sentences what the measurement says in numbers.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        Basic Text SR Storage, complete and unverified, with file meta information.
    """
    frame = level_frame(analysis, context)
    with quiet():
        result = begin(
            BasicTextSRStorage,
            SERIES,
            report_uid(analysis, context, "text sr series"),
            report_uid(analysis, context, "text sr"),
            frame.dataset,
        )
        stamp(result, analysis, context)
        put_contributing_equipment(result, analysis, context)
        items = [
            *(text_item(_FINDING, sentence) for sentence in _sentences(analysis, context)),
            *(
                code_item(codes.LOW_FINDINGS[measure], codes.VERDICTS[assessment.verdict])
                for measure, assessment in assessments(analysis)
            ),
            image_item(frame),
        ]
        put_text_document(result, items, context)
        put_evidence(result, frame)
        put_predecessor(result, context)
    return result


def put_text_document(result: Dataset, findings: Sequence[Dataset], context: ResultContext) -> None:
    """Make a stamped object an SR document with one section of findings (PS3.16 TID 2000).

    Parameters
    ----------
    result : Dataset
    findings : sequence of Dataset
        Content items.
    context : ResultContext
    """
    result.CompletionFlag = "COMPLETE"
    result.PreliminaryFlag = "PRELIMINARY"
    result.VerificationFlag = "UNVERIFIED"
    result.ReferencedPerformedProcedureStepSequence = []
    result.PerformedProcedureCodeSequence = []
    result.CodingSchemeIdentificationSequence = [local_scheme()]
    result.ValueType = "CONTAINER"
    result.ConceptNameCodeSequence = [coded(codes.DIAGNOSTIC_REPORT)]
    result.ContinuityOfContent = "SEPARATE"
    section = _item("CONTAINER", _FINDINGS)
    section.ContinuityOfContent = "SEPARATE"
    section.ContentSequence = list(findings)
    result.ContentSequence = [*_observer(context), section]


def text_item(name: Code, value: str) -> Dataset:
    """Return a TEXT content item."""
    item = _item("TEXT", name)
    item.TextValue = value
    return item


def code_item(name: Code, value: Code) -> Dataset:
    """Return a CODE content item."""
    item = _item("CODE", name)
    item.ConceptCodeSequence = [coded(value)]
    return item


def image_item(frame: Frame) -> Dataset:
    """Return an IMAGE content item."""
    item = _item("IMAGE", _SOURCE)
    item.ReferencedSOPSequence = [image_reference(frame)]
    return item


def put_evidence(result: Dataset, frame: Frame) -> None:
    """List the image that the document refers to (PS3.3 C.17.2)."""
    reference = image_reference(frame)
    if "ReferencedFrameNumber" in reference:
        del reference.ReferencedFrameNumber
    series = Dataset()
    series.SeriesInstanceUID = frame.dataset.SeriesInstanceUID
    series.ReferencedSOPSequence = [reference]
    study = Dataset()
    study.StudyInstanceUID = frame.dataset.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    result.CurrentRequestedProcedureEvidenceSequence = [study]


def _observer(context: ResultContext) -> Iterator[Dataset]:
    language = _item("CODE", codes.LANGUAGE, "HAS CONCEPT MOD")
    language.ConceptCodeSequence = [coded(codes.ENGLISH)]
    yield language
    kind = _item("CODE", codes.OBSERVER_TYPE, "HAS OBS CONTEXT")
    kind.ConceptCodeSequence = [coded(codes.DEVICE)]
    yield kind
    uid = _item("UIDREF", codes.DEVICE_UID, "HAS OBS CONTEXT")
    uid.UID = device_uid(context)
    yield uid
    for name, value in (
        (codes.DEVICE_NAME, MODEL_NAME),
        (codes.DEVICE_MANUFACTURER, MANUFACTURER),
        (codes.DEVICE_MODEL, MODEL_NAME),
    ):
        item = _item("TEXT", name, "HAS OBS CONTEXT")
        item.TextValue = value
        yield item


def _sentences(analysis: Analysis, context: ResultContext) -> Iterator[str]:
    composition = analysis.composition
    muscle = composition.of(SKELETAL_MUSCLE)
    area = f"Skeletal muscle area at {composition.level.name}: {muscle.area_cm2:.2f} cm2"
    if analysis.interval is not None:
        one = analysis.interval
        kind = "customary" if one.coverage is None else f"{one.coverage:.0%}"
        area += f" ({kind} interval {one.lower_cm2:.2f} to {one.upper_cm2:.2f} cm2)"
    yield f"{area}."
    if muscle.mean_hu is not None and muscle.sd_hu is not None:
        yield f"Attenuation of it: mean {muscle.mean_hu:.2f} HU, SD {muscle.sd_hu:.2f} HU."
    if composition.skeletal_muscle_index_cm2_m2 is not None:
        yield f"Skeletal muscle index: {composition.skeletal_muscle_index_cm2_m2:.2f} cm2/m2."
    for tissue in composition.tissues:
        if tissue is not muscle and tissue.area_cm2:
            label = codes.TISSUE_CONCEPTS[tissue.tissue].label
            yield f"{label} area at {composition.level.name}: {tissue.area_cm2:.2f} cm2."
    yield from _remarks(analysis, context)


def _remarks(analysis: Analysis, context: ResultContext) -> Iterator[str]:
    for _, assessment in assessments(analysis):
        yield assessment.reason
        if assessment.citation:
            yield f"Source of the cut-off: {assessment.citation}"
    if context.prior is not None:
        yield change_text(change_since(analysis, context.prior))
    for flag in analysis.quality:
        yield f"{flag.severity.upper()} {flag.code}: {flag.message}"
    for model in analysis.models:
        yield f"Algorithm: {model.name} {model.version}, sha256 {model.sha256}."
    yield RESEARCH_NOTICE


def _item(value_type: str, name: Code, relationship: str = "CONTAINS") -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [coded(name)]
    return item
