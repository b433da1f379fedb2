"""Builds the Encapsulated PDF for systems that show documents rather than images (PS3.3 A.45.1)."""

import io
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from pipeline.objects.attributes import quiet, text
from pipeline.objects.codes import DIAGNOSTIC_REPORT
from pipeline.objects.equipment import coded, put_contributing_equipment
from pipeline.objects.identity import (
    MANUFACTURER,
    RESEARCH_NOTICE,
    ResultContext,
    level_frame,
    local_time,
    report_uid,
    stamp,
)
from pipeline.objects.overlay import draw_page
from pipeline.objects.skeleton import ResultSeries, begin, image_reference
from pipeline.types import Analysis

SERIES: Final = ResultSeries("DOC", 971, "AI SMA L3 page (RESEARCH)")
TITLE: Final = "Skeletal muscle area at L3 (research use only)"

_DOTS_PER_INCH: Final = 110.0  # makes the page about as wide as A4


def build(analysis: Analysis, context: ResultContext) -> Dataset:
    """Store the page of ``draw_page`` as a PDF of one page.

    Parameters
    ----------
    analysis : Analysis
    context : ResultContext

    Returns
    -------
    Dataset
        Encapsulated PDF Storage, explicit VR little endian, with file meta information.
    """
    frame = level_frame(analysis, context)
    source = frame.dataset
    document = _pdf(analysis, context, local_time(context, source))
    with quiet():
        result = begin(
            EncapsulatedPDFStorage,
            SERIES,
            report_uid(analysis, context, "pdf series"),
            report_uid(analysis, context, "pdf"),
            source,
        )
        stamp(result, analysis, context)
        put_contributing_equipment(result, analysis, context)
        result.ConversionType = "WSD"
        result.AcquisitionDateTime = _acquired(source)
        result.BurnedInAnnotation = "NO"
        result.RecognizableVisualFeatures = "NO"
        result.SourceInstanceSequence = [image_reference(frame)]
        result.DocumentTitle = TITLE
        result.ConceptNameCodeSequence = [coded(DIAGNOSTIC_REPORT)]
        result.MIMETypeOfEncapsulatedDocument = "application/pdf"
        result.EncapsulatedDocumentLength = len(document)
        result.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return result


def _pdf(analysis: Analysis, context: ResultContext, created: datetime) -> bytes:
    file = io.BytesIO()
    moment = created.timetuple()
    draw_page(analysis, context.prior).save(
        file,
        "PDF",
        resolution=_DOTS_PER_INCH,
        quality=95,
        title=TITLE,
        author=MANUFACTURER,
        subject=RESEARCH_NOTICE,
        # Pillow would write the time of the run, and two runs would differ.
        creationDate=moment,
        modDate=moment,
    )
    return file.getvalue()


def _acquired(source: Dataset) -> str | None:
    whole = text(source, "AcquisitionDateTime")
    day = text(source, "AcquisitionDate")
    return whole or (day + text(source, "AcquisitionTime") if day else "") or None
