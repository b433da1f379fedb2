"""Reads what a cut-off needs to know of the patient."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

from pydicom.dataset import Dataset

from pipeline.objects.attributes import number, text
from pipeline.types import QualityFlag, Severity, Sex, Subject

_HEIGHT_M: Final = (1.20, 2.30)
_WEIGHT_KG: Final = (25.0, 350.0)
_OLDEST_YEARS: Final = 130.0
_DAYS_PER_YEAR: Final = 365.2425
_YEARS_PER_UNIT: Final = {"D": 1 / _DAYS_PER_YEAR, "W": 7 / _DAYS_PER_YEAR, "M": 1 / 12, "Y": 1.0}


def read_subject(datasets: Sequence[Dataset]) -> Subject:
    """Read sex, age, height and weight from the first object of a series.

    What is absent or not believable becomes ``None``; a sex other than M or F too. Heights are
    believed from 1.20 to 2.30 m and weights from 25 to 350 kg.
    """
    header = datasets[0]
    sex = text(header, "PatientSex").upper()
    return Subject(
        sex=Sex(sex) if sex in {"M", "F"} else None,
        age_years=_age_years(header),
        height_m=_believable(number(header, "PatientSize"), _HEIGHT_M),
        weight_kg=_believable(number(header, "PatientWeight"), _WEIGHT_KG),
    )


def subject_remarks(datasets: Sequence[Dataset]) -> tuple[QualityFlag, ...]:
    """Say what in the patient data looks wrong rather than absent.

    Returns
    -------
    tuple of QualityFlag
        ``SIZE_UNIT`` when Patient's Size would be a height if it were in centimetres. It is not
        divided: a wrong height moves the index with its square.
    """
    size = number(datasets[0], "PatientSize")
    if size is None or _believable(size / 100, _HEIGHT_M) is None:
        return ()
    message = "Patient's Size must be in metres and looks like centimetres; it is not used."
    return (QualityFlag("SIZE_UNIT", Severity.WARNING, message),)


def _believable(value: float | None, limits: tuple[float, float]) -> float | None:
    return value if value is not None and limits[0] <= value <= limits[1] else None


def _age_years(header: Dataset) -> float | None:
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text(header, "PatientAge").upper())
    if match:
        return _believable(int(match[1]) * _YEARS_PER_UNIT[match[2]], (0.0, _OLDEST_YEARS))
    born, studied = _day(header, "PatientBirthDate"), _day(header, "StudyDate")
    if born is None or studied is None:
        return None
    return _believable((studied - born).days / _DAYS_PER_YEAR, (0.0, _OLDEST_YEARS))


def _day(header: Dataset, keyword: str) -> date | None:
    digits = text(header, keyword).replace(".", "").replace("-", "")
    if not re.fullmatch(r"\d{8}", digits):
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        return None
