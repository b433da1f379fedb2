"""What was measured, by this node and by others before."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class ResultObject:
    """A result object that this node made, as others may refer to it.

    Parameters
    ----------
    name : str
        Of its builder, such as ``"sr"``.
    sop_class_uid, sop_instance_uid, series_instance_uid : str
        Its own.
    """

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One measurement that this node made, with the objects that state it.

    Parameters
    ----------
    series_instance_uid : str
        Of the ledger's series that led to it: the images, or a corrected segmentation.
    revision : int
    version : str
        Digest of software, models, cut-offs and prior: the same images measured with other
        weights are another version.
    source_series_uid : str
        The measured images.
    study_instance_uid : str
    study_date : date or None
        Of the images.
    by_reader : bool
        Whether a reader corrected the mask.
    measurement : mapping
        As in ``measurement.json``.
    objects : tuple of ResultObject
        In the order in which they were made.
    """

    series_instance_uid: str
    revision: int
    version: str
    source_series_uid: str
    study_instance_uid: str
    study_date: date | None
    by_reader: bool
    measurement: Mapping[str, Any]
    objects: tuple[ResultObject, ...]

    @property
    def origin(self) -> tuple[str, int, str]:
        """What tells it from every other one."""
        return self.series_instance_uid, self.revision, self.version

    def latest(self, name: str) -> ResultObject | None:
        """Object of a name; the last one when other priors made several."""
        return next((one for one in reversed(self.objects) if one.name == name), None)


@dataclass(frozen=True, slots=True)
class PriorSearch:
    """The search for earlier results of the patient of one revision of a series in a PACS.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    settled : bool
        Nobody is waited for any more.
    sentence : str
        As in "1 earlier report at PACS-A".
    due_at : datetime
        When a PACS that is not heard is not waited for any longer; when it was settled.
    found : tuple of ResultEntry
        The first one first.
    """

    series_instance_uid: str
    revision: int
    settled: bool
    sentence: str
    due_at: datetime
    found: tuple[ResultEntry, ...] = ()
