"""Ask a PACS what it has of a series, and have it send what is missing, as Service Class User.

References
----------
DICOM PS3.4 Annex C (Query/Retrieve, Study Root); PS3.4 C.3.4 for the optional key
Number of Series Related Instances (0020,1209); PS3.18 10.6 (QIDO-RS).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pynetdicom.events import Event

from dicom_node.config import WebSettings
from dicom_node.contexts import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from dicom_node.errors import PeerError
from dicom_node.query_retrieve import FIND, GET, MOVE, Inquirer, Intake, level_keys
from dicom_node.sender import Peer
from dicom_node.stow import NO_JSON_MODEL, client_of, said


@dataclass(frozen=True, slots=True)
class HeldSeries:
    """A CT series that a PACS has.

    Parameters
    ----------
    study_instance_uid, series_instance_uid : str
    instance_count : int or None
        ``None`` when the PACS does not say.
    """

    study_instance_uid: str
    series_instance_uid: str
    instance_count: int | None


@dataclass(frozen=True, slots=True)
class Archive:
    """A PACS that answers queries.

    Parameters
    ----------
    peer : Peer
    calling_ae_title : str
    timeout_s : float
        For the connection and each answer.
    """

    peer: Peer
    calling_ae_title: str
    timeout_s: float

    def count(self, study_instance_uid: str, series_instance_uid: str) -> int | None:
        """How many instances of a series it has; ``None`` when it does not say.

        Raises
        ------
        PeerError
        """
        keys = _keys("SERIES", study_instance_uid, series_instance_uid)
        keys.NumberOfSeriesRelatedInstances = None
        for answer in self._inquirer.find_once(keys):
            return _count(answer)
        return 0

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a series that it has.

        Raises
        ------
        PeerError
        """
        keys = _keys("IMAGE", study_instance_uid, series_instance_uid)
        keys.SOPInstanceUID = ""
        return frozenset(
            str(answer.SOPInstanceUID)
            for answer in self._inquirer.find_once(keys)
            if "SOPInstanceUID" in answer
        )

    def series_of_days(self, days: str) -> tuple[HeldSeries, ...]:
        """Return every CT series of studies of some days, in one association.

        Parameters
        ----------
        days : str
            Study Date (0008,0020) as DICOM matches it: ``20240101-20240131``.

        Raises
        ------
        PeerError
        """
        studies = level_keys("STUDY", StudyDate=days, ModalitiesInStudy="CT", StudyInstanceUID="")
        held = []
        inquirer = self._inquirer
        with inquirer.associated(FIND) as association:
            for study in inquirer.find(association, studies):
                uid = str(study.StudyInstanceUID)
                keys = _keys("SERIES", uid, "")
                keys.Modality, keys.NumberOfSeriesRelatedInstances = "CT", None
                # Matching by modality is for a PACS to do, but not every one does.
                held += [
                    HeldSeries(uid, str(answer.SeriesInstanceUID), _count(answer))
                    for answer in inquirer.find(association, keys)
                    if answer.get("Modality") == "CT"
                ]
        return tuple(held)

    def send_series_to(
        self, destination: str, study_instance_uid: str, series_instance_uid: str
    ) -> None:
        """Have it store a whole series at an AE title that it knows (C-MOVE).

        Raises
        ------
        PeerError
            It did not send all of it.
        """
        with self._inquirer.associated(MOVE) as association:
            keys = _keys("SERIES", study_instance_uid, series_instance_uid)
            self._inquirer.move(association, keys, destination)

    def send_to(
        self,
        destination: str,
        study_instance_uid: str,
        series_instance_uid: str,
        sop_instance_uids: Iterable[str],
    ) -> None:
        """Have it store instances at an AE title that it knows (C-MOVE).

        Raises
        ------
        PeerError
            It did not send all of them.
        """
        keys = _keys("IMAGE", study_instance_uid, series_instance_uid)
        keys.SOPInstanceUID = sorted(sop_instance_uids)
        with self._inquirer.associated(MOVE) as association:
            self._inquirer.move(association, keys, destination)

    def get(
        self,
        study_instance_uid: str,
        series_instance_uid: str,
        sop_instance_uids: Iterable[str],
        keep: Callable[[Event], int],
    ) -> None:
        """Have it store instances on the association that we open (C-GET).

        Parameters
        ----------
        study_instance_uid, series_instance_uid : str
        sop_instance_uids : iterable of str
        keep : callable
            Answers each C-STORE with a status.

        Raises
        ------
        PeerError
            It did not send all of them.
        """
        keys = _keys("IMAGE", study_instance_uid, series_instance_uid)
        keys.SOPInstanceUID = sorted(sop_instance_uids)
        intake = Intake(STORAGE_SOP_CLASSES, [one.uid for one in TRANSFER_SYNTAXES], keep)
        with self._inquirer.associated(GET, intake=intake) as association:
            self._inquirer.get(association, keys)

    @property
    def _inquirer(self) -> Inquirer:
        return Inquirer(self.peer, self.calling_ae_title, self.timeout_s)


@dataclass(frozen=True, slots=True)
class WebArchive:
    """A PACS that answers queries over DICOMweb.

    Parameters
    ----------
    web : WebSettings
    timeout_s : float
        For the connection and each answer.
    """

    web: WebSettings
    timeout_s: float

    def count(self, study_instance_uid: str, series_instance_uid: str) -> int | None:
        """How many instances of a series it has; ``None`` when it does not say.

        Raises
        ------
        PeerError
        """
        with self._asked() as client:
            found = client.search_for_series(
                study_instance_uid,
                fields=["NumberOfSeriesRelatedInstances"],
                search_filters={"SeriesInstanceUID": series_instance_uid},
            )
            for answer in map(Dataset.from_json, found):
                return _count(answer)
        return 0

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a series that it has.

        Raises
        ------
        PeerError
        """
        with self._asked() as client:
            found = client.search_for_instances(
                study_instance_uid, series_instance_uid, get_remaining=True
            )
            answers = [Dataset.from_json(one) for one in found]
        return frozenset(str(one.SOPInstanceUID) for one in answers if "SOPInstanceUID" in one)

    def series_of_days(self, days: str) -> tuple[HeldSeries, ...]:
        """Return every CT series of studies of some days; see ``Archive.series_of_days``.

        Raises
        ------
        PeerError
        """
        filters = {"StudyDate": days, "Modality": "CT"}
        fields = ["NumberOfSeriesRelatedInstances"]
        with self._asked() as client:
            found = client.search_for_series(
                search_filters=filters, fields=fields, get_remaining=True
            )
            headers = [Dataset.from_json(one) for one in found]
        return tuple(
            HeldSeries(str(one.StudyInstanceUID), str(one.SeriesInstanceUID), _count(one))
            for one in headers
        )

    def retrieve(
        self, study_instance_uid: str, series_instance_uid: str, keep: Callable[[Dataset], object]
    ) -> None:
        """Fetch a series and hand each object on (WADO-RS).

        Raises
        ------
        PeerError
        """
        with self._asked() as client:
            for dataset in client.retrieve_series(study_instance_uid, series_instance_uid):
                keep(dataset)

    @contextmanager
    def _asked(self) -> Iterator[DICOMwebClient]:
        try:
            yield client_of(self.web, self.timeout_s)
        except (requests.RequestException, *NO_JSON_MODEL) as error:
            raise PeerError(f"{self.web.url} {said(error)}") from None


def _keys(level: str, study_instance_uid: str, series_instance_uid: str) -> Dataset:
    return level_keys(
        level, StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_instance_uid
    )


def _count(answer: Dataset) -> int | None:
    value = answer.get("NumberOfSeriesRelatedInstances")
    return None if value in (None, "") else int(value)
