"""Look for earlier results of a patient in a PACS before a series is measured.

What this node measured itself stands in the ledger; a PACS is asked where the settings say so.
That a series waits for the answer is the business of ``prior_desk``.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.earlier_results import Patient, Reports, earlier_reports
from dicom_node.errors import NodeError
from dicom_node.ledger import Ledger
from dicom_node.records import PriorSearch, ResultEntry, SeriesRecord
from dicom_node.spool import Spool
from pipeline.objects.earlier_report import EarlierReport

logger = structlog.get_logger(__name__)

_NOT_OF_THIS_NODE: Final = 0
"""Revision of what no series of the ledger led to; those of the ledger start at 1."""


def search_priors(
    record: SeriesRecord, ledger: Ledger, spool: Spool, pacs: Reports, now: datetime
) -> None:
    """Ask a PACS for earlier results and write down what it has; the work of one task.

    Raises
    ------
    LedgerError
    """
    uid, revision = record.series_instance_uid, record.revision
    paths = spool.series_files(ledger.own_instances(uid))
    found: tuple[ResultEntry, ...] = ()
    try:
        sentence, reports = _ask(paths, pacs)
        found = tuple(_entry(report) for report in reports)
    except NodeError as error:
        sentence = f"earlier results are not known: {error}"
    ledger.prior_searches.put(PriorSearch(uid, revision, True, sentence, now, found))
    logger.info("earlier results", series=uid, said=sentence)


def _ask(paths: Sequence[Path], pacs: Reports) -> tuple[str, tuple[EarlierReport, ...]]:
    patient = _patient(paths)
    if patient is None or not patient.can_be_searched:
        return "no search: the images name no patient ID that can be searched for", ()
    if patient.study_date is None:
        return "no search: the study has no date that others could be earlier than", ()
    reports = earlier_reports(patient, pacs)
    count = len(reports) or "no"
    plural = "" if len(reports) == 1 else "s"
    return f"{count} earlier report{plural} at {pacs.label}", reports


def _patient(paths: Sequence[Path]) -> Patient | None:
    for path in paths:
        try:
            return Patient.of(dcmread(path, stop_before_pixels=True))
        except (OSError, InvalidDicomError):
            continue
    return None


def _entry(report: EarlierReport) -> ResultEntry:
    interval, model = report.interval, report.segmenter
    return ResultEntry(
        series_instance_uid=report.source_series_uid,
        revision=_NOT_OF_THIS_NODE,
        version=report.sop_instance_uid,
        source_series_uid=report.source_series_uid,
        study_instance_uid=report.study_instance_uid,
        study_date=report.study_date,
        by_reader=report.by_reader,
        measurement={
            "skeletal_muscle_area_cm2": report.area_cm2,
            "interval_cm2": interval
            and {
                "lower": interval.lower_cm2,
                "upper": interval.upper_cm2,
                "coverage": interval.coverage,
            },
            "model": model
            and {"name": model.name, "version": model.version, "sha256": model.sha256},
        },
        objects=(),
    )
