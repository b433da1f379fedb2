"""Find earlier reports of ours on a patient in a PACS.

Which PACS that is, and how it is asked, stands in ``report_archives``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Final, Protocol

from pydicom.dataset import Dataset

from pipeline.objects.attributes import text, texts
from pipeline.objects.earlier_report import EarlierReport, day_of, read_report

_MOST_STUDIES: Final = 20
MOST_SERIES: Final = 10
"""Of reports in one study that are looked at."""
_OURS: Final = "AI SMA L3 report"
"""How the description of our series begins."""
_WILDCARDS: Final = frozenset("*?")


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose results are looked for, as the header of the present study says.

    Parameters
    ----------
    patient_id, issuer, birth_date : str
        Empty where the header says nothing.
    study_instance_uid : str
        The present study.
    study_date : date or None
        Of the present study.
    """

    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    birth_date: str = field(repr=False)
    study_instance_uid: str
    study_date: date | None

    @classmethod
    def of(cls, header: Dataset) -> "Patient":
        """Read it from the header of any object of the study."""
        return cls(
            _only(header, "PatientID"),
            text(header, "IssuerOfPatientID"),
            text(header, "PatientBirthDate"),
            text(header, "StudyInstanceUID"),
            day_of(header),
        )

    @property
    def can_be_searched(self) -> bool:
        """Whether the ID names one patient; a wildcard in it would name many (PS3.4 C.2.2.2.4)."""
        return bool(self.patient_id) and not _WILDCARDS & set(self.patient_id)

    def is_of(self, report: Dataset) -> bool:
        """Whether a report is about this patient: the same ID, and nothing that says otherwise."""
        return text(report, "PatientID") == self.patient_id and all(
            not here or not there or here == there
            for here, there in (
                (self.issuer, text(report, "IssuerOfPatientID")),
                (self.birth_date, text(report, "PatientBirthDate")),
            )
        )


def _only(header: Dataset, keyword: str) -> str:
    values = texts(header, keyword)
    return values[0] if len(values) == 1 else ""


class Reports(Protocol):
    """A PACS that hands out reports. Every method raises ``PeerError``."""

    @property
    def label(self) -> str:
        """How sentences name it."""

    def studies(self, patient_id: str) -> list[Dataset]:
        """Study Instance UID and Study Date of each study of a patient."""

    def series(self, study_instance_uid: str) -> list[Dataset]:
        """Series Instance UID, Modality and Series Description of each series of a study."""

    def objects(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        """Get the reports of a series."""


def earlier_reports(patient: Patient, pacs: Reports) -> tuple[EarlierReport, ...]:
    """Find the reports on the latest earlier study of a patient that has any.

    Reports that another one of them replaces are left out.

    Parameters
    ----------
    patient : Patient
    pacs : Reports

    Returns
    -------
    tuple of EarlierReport
        In the order in which they were made.

    Raises
    ------
    PeerError
    """
    for study in islice(_earlier_studies(patient, pacs), _MOST_STUDIES):
        found = [
            report
            for series in islice(_report_series(study, pacs), MOST_SERIES)
            for one in pacs.objects(study, series)
            if patient.is_of(one) and (report := read_report(one)) is not None
        ]
        replaced = frozenset[str]().union(*(report.replaces for report in found))
        valid = [
            report
            for report in found
            if report.sop_instance_uid not in replaced and _is_earlier(report.study_date, patient)
        ]
        if valid:
            return tuple(sorted(valid, key=lambda report: report.created))
    return ()


def _earlier_studies(patient: Patient, pacs: Reports) -> Iterator[str]:
    """List the studies before the present one, the latest one first."""
    dated = {
        text(study, "StudyInstanceUID"): day
        for study in pacs.studies(patient.patient_id)
        if (day := day_of(study)) is not None and _is_earlier(day, patient)
    }
    dated.pop(patient.study_instance_uid, None)
    yield from sorted(dated, key=lambda uid: (dated[uid], uid), reverse=True)


def _is_earlier(day: date, patient: Patient) -> bool:
    return patient.study_date is not None and day < patient.study_date


def _report_series(study: str, pacs: Reports) -> Iterator[str]:
    for series in pacs.series(study):
        description = text(series, "SeriesDescription")
        # A PACS need not return descriptions; then the report itself tells whose it is.
        if text(series, "Modality") == "SR" and (not description or description.startswith(_OURS)):
            yield text(series, "SeriesInstanceUID")
