"""Ask a PACS for reports, by DIMSE or over DICOMweb.

References
----------
DICOM PS3.4 Annex C (Query/Retrieve, Study Root: C-FIND, C-GET); PS3.18 10.6 (QIDO-RS) and 10.4
(WADO-RS).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.events import Event

from dicom_node.config import NodeSettings, WebSettings
from dicom_node.destinations import security_of
from dicom_node.earlier_results import MOST_SERIES, Reports
from dicom_node.errors import PeerError, SettingsError
from dicom_node.query_retrieve import GET, Inquirer, Intake, level_keys
from dicom_node.sender import Peer
from dicom_node.stow import NO_JSON_MODEL, client_of, said

_SUCCESS: Final = 0x0000
_REFUSED: Final = 0xA900
_SYNTAXES: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@dataclass(frozen=True, slots=True)
class DimseReports:
    """Reports by C-FIND and C-GET.

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

    @property
    def label(self) -> str:
        """How sentences name it."""
        return self.peer.label

    def studies(self, patient_id: str) -> list[Dataset]:
        """Study Instance UID and Study Date of each study of a patient."""
        keys = level_keys("STUDY", PatientID=patient_id, StudyDate="", StudyInstanceUID="")
        keys.SpecificCharacterSet = "ISO_IR 192"
        return self._inquirer.find_once(keys)

    def series(self, study_instance_uid: str) -> list[Dataset]:
        """Series Instance UID, Modality and Series Description of each series of a study."""
        keys = level_keys("SERIES", StudyInstanceUID=study_instance_uid, Modality="SR")
        keys.SeriesInstanceUID = keys.SeriesDescription = ""
        return self._inquirer.find_once(keys)

    def objects(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        """Get the reports of a series."""
        keys = level_keys(
            "SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_instance_uid
        )
        received: list[Dataset] = []
        keep = partial(_keep, received=received)
        intake = Intake([Comprehensive3DSRStorage], _SYNTAXES, keep)
        with self._inquirer.associated(GET, intake=intake) as association:
            self._inquirer.get(association, keys)
        return received

    @property
    def _inquirer(self) -> Inquirer:
        return Inquirer(self.peer, self.calling_ae_title, self.timeout_s)


def _keep(event: Event, received: list[Dataset]) -> int:
    """Answer one C-STORE of a C-GET (PS3.4 C.4.3)."""
    if len(received) >= MOST_SERIES:
        return _REFUSED
    received.append(event.dataset)
    return _SUCCESS


@dataclass(frozen=True, slots=True)
class WebReports:
    """Reports by QIDO-RS and WADO-RS.

    Parameters
    ----------
    web : WebSettings
    timeout_s : float
        For the connection and each answer.
    """

    web: WebSettings
    timeout_s: float

    @property
    def label(self) -> str:
        """How sentences name it."""
        return self.web.url

    def studies(self, patient_id: str) -> list[Dataset]:
        """Study Instance UID and Study Date of each study of a patient."""
        with self._asked() as client:
            found = client.search_for_studies(
                search_filters={"PatientID": patient_id}, get_remaining=True
            )
        return _read(found)

    def series(self, study_instance_uid: str) -> list[Dataset]:
        """Series Instance UID, Modality and Series Description of each series of a study."""
        with self._asked() as client:
            found = client.search_for_series(
                study_instance_uid, search_filters={"Modality": "SR"}, get_remaining=True
            )
        return _read(found)

    def objects(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        """Get the reports of a series."""
        with self._asked() as client:
            return list(client.retrieve_series(study_instance_uid, series_instance_uid))

    @contextmanager
    def _asked(self) -> Iterator[DICOMwebClient]:
        try:
            yield client_of(self.web, self.timeout_s)
        except (requests.RequestException, *NO_JSON_MODEL) as error:
            raise PeerError(f"{self.label} {said(error)}") from None


def _read(found: Iterable[dict[str, dict[str, object]]]) -> list[Dataset]:
    return [Dataset.from_json(one) for one in found]


def reports_of(settings: NodeSettings) -> Reports | None:
    """Return the PACS that is asked for earlier reports, ``None`` when none is.

    Raises
    ------
    SettingsError
        The destination is not there any more.
    TlsError
        Our certificate or key cannot be used.
    """
    priors = settings.priors
    if priors is None:
        return None
    timeout_s = settings.delivery.timeout_s
    for destination in settings.destinations:
        if destination.name != priors.destination:
            continue
        if destination.web is not None:
            return WebReports(destination.web, timeout_s)
        host = priors.host or destination.host
        peer = Peer(
            priors.ae_title or destination.ae_title,
            host,
            priors.port or destination.port,
            security_of(destination, settings, host),
        )
        return DimseReports(peer, settings.listener.ae_title, timeout_s)
    raise SettingsError(f"priors.destination: there is no destination {priors.destination}")
