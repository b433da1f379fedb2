"""What the ledger knows that the work on a series needs: earlier results, what is corrected."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

from dicom_node.errors import SpoolError
from dicom_node.records import ResultEntry, ResultObject


@dataclass(frozen=True, slots=True)
class Notice:
    """A report that a series was not analysed, which some destination has.

    Parameters
    ----------
    revision : int
        Of the series.
    study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid : str
        Of the report.
    """

    revision: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Background:
    """Goes to a worker with the work order.

    Parameters
    ----------
    source_series_uid : str
        The images to measure.
    segmentation : Path or None
        A corrected segmentation of them, relative to the spool.
    earlier : tuple of ResultEntry
        Measurements of the same images, the first one first.
    priors : tuple of ResultEntry
        Measurements of the patient in other studies, the first one first.
    notices : tuple of Notice
        Reports that the series was not analysed, the first one first.
    """

    source_series_uid: str
    segmentation: Path | None = None
    earlier: tuple[ResultEntry, ...] = ()
    priors: tuple[ResultEntry, ...] = ()
    notices: tuple[Notice, ...] = ()

    def to_json(self) -> bytes:
        """Return it as it lies in the spool."""
        return json.dumps(
            {
                "source_series_uid": self.source_series_uid,
                "segmentation": self.segmentation and self.segmentation.as_posix(),
                "earlier": [entry_to_json(entry) for entry in self.earlier],
                "priors": [entry_to_json(entry) for entry in self.priors],
                "notices": [asdict(notice) for notice in self.notices],
            }
        ).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what ``to_json`` wrote.

        Raises
        ------
        SpoolError
            The file is damaged.
        """
        try:
            data = json.loads(content)
            return cls(
                data["source_series_uid"],
                data["segmentation"] and Path(data["segmentation"]),
                tuple(entry_from_json(entry) for entry in data["earlier"]),
                tuple(entry_from_json(entry) for entry in data["priors"]),
                # Orders of older versions have none.
                tuple(Notice(**notice) for notice in data.get("notices", ())),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SpoolError(f"the background in the spool is damaged: {error!r}") from None


def entry_to_json(entry: ResultEntry) -> dict[str, Any]:
    """Return a measurement as plain values."""
    day = None if entry.study_date is None else entry.study_date.isoformat()
    return asdict(entry) | {"study_date": day}


def entry_from_json(data: Mapping[str, Any]) -> ResultEntry:
    """Read what ``entry_to_json`` gave; raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    day = data["study_date"]
    return ResultEntry(
        **{key: value for key, value in data.items() if key not in {"study_date", "objects"}},
        study_date=None if day is None else date.fromisoformat(day),
        objects=tuple(ResultObject(**one) for one in data["objects"]),
    )


def predecessor_among(
    earlier: Sequence[ResultEntry], origin: tuple[str, int, str]
) -> ResultEntry | None:
    """Find the measurement that a new one of the same images replaces.

    Parameters
    ----------
    earlier : sequence of ResultEntry
        The first one first.
    origin : (series, revision, version)
        Of the new one. When it was measured before, what came before it then: repeated work
        names the same predecessor, never itself.
    """
    before: ResultEntry | None = None
    for entry in earlier:
        if entry.origin == origin:
            break
        before = entry
    return before


def prior_among(priors: Sequence[ResultEntry], day: date | None) -> ResultEntry | None:
    """Find the measurement of the latest study before a day.

    Of several of one series the last one counts: a reader's correction comes after what it
    corrects.

    Parameters
    ----------
    priors : sequence of ResultEntry
        The first one first.
    day : date or None
        Of the present study; without one nothing is earlier.
    """
    older = [
        (entry.study_date, number, entry)
        for number, entry in enumerate(priors)
        if entry.study_date is not None and day is not None and entry.study_date < day
    ]
    return max(older, key=lambda item: item[:2])[2] if older else None
