"""What every kind of report states, written without a library for structured reports."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

from pipeline.objects import codes
from pipeline.objects.identity import MANUFACTURER, PredecessorReport, ResultContext
from pipeline.types import Analysis, Assessment, Measure


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
