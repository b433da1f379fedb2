"""Ask a PACS for reports, by DIMSE or over DICOMweb.

References
----------
DICOM PS3.4 Annex C (Query/Retrieve, Study Root: C-FIND, C-GET); PS3.18 10.6 (QIDO-RS) and 10.4
(WADO-RS).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from dicom_node.config import NodeSettings, WebSettings
from dicom_node.destinations import security_of
from dicom_node.earlier_results import MOST_SERIES, Reports
from dicom_node.errors import PeerError, SettingsError
from dicom_node.sender import Peer, open_association
from dicom_node.stow import NO_JSON_MODEL, client_of, said

# PS3.4 C.6.2.1; made at run time in pynetdicom, so a type checker does not know the names there.
_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SUCCESS: Final = 0x0000
_REFUSED: Final = 0xA900
_SYNTAXES: Final[list[str | UID]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


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
        keys = Dataset()
        keys.QueryRetrieveLevel = "STUDY"
        keys.SpecificCharacterSet = "ISO_IR 192"
        keys.PatientID = patient_id
        keys.StudyDate = keys.StudyInstanceUID = ""
        return self._find(keys)

    def series(self, study_instance_uid: str) -> list[Dataset]:
        """Series Instance UID, Modality and Series Description of each series of a study."""
        keys = Dataset()
        keys.QueryRetrieveLevel = "SERIES"
        keys.StudyInstanceUID = study_instance_uid
        keys.Modality = "SR"
        keys.SeriesInstanceUID = keys.SeriesDescription = ""
        return self._find(keys)

    def objects(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        """Get the reports of a series."""
        keys = Dataset()
        keys.QueryRetrieveLevel = "SERIES"
        keys.StudyInstanceUID = study_instance_uid
        keys.SeriesInstanceUID = series_instance_uid
        received: list[Dataset] = []
        with self._associated(_GET, received) as association:
            responses = list(association.send_c_get(keys, _GET))
        self._check(responses[-1][0] if responses else Dataset(), "C-GET")
        return received

    def _find(self, keys: Dataset) -> list[Dataset]:
        with self._associated(_FIND, []) as association:
            responses = list(association.send_c_find(keys, _FIND))
        self._check(responses[-1][0] if responses else Dataset(), "C-FIND")
        return [
            identifier
            for status, identifier in responses
            if status.get("Status") in _PENDING and identifier is not None
        ]

    def _check(self, response: Dataset, question: str) -> None:
        status = response.get("Status")
        if status != _SUCCESS:
            answer = "nothing" if status is None else f"status {status:04X}"
            raise PeerError(f"{self.label} answered {question} with {answer}")

    @contextmanager
    def _associated(self, model: str, received: list[Dataset]) -> Iterator[Association]:
        contexts = [build_context(model)]
        roles = []
        if model == _GET:
            contexts.append(build_context(Comprehensive3DSRStorage, _SYNTAXES))
            roles.append(build_role(Comprehensive3DSRStorage, scp_role=True))
        with open_association(
            self.peer,
            contexts,
            self.calling_ae_title,
            self.timeout_s,
            [(evt.EVT_C_STORE, _keep, [received])],
            roles,
        ) as association:
            if not any(one.abstract_syntax == model for one in association.accepted_contexts):
                raise PeerError(f"{self.label} does not answer such queries")
            yield association


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
