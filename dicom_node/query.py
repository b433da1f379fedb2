"""Ask a PACS what it has of a series, and have it send what is missing, as Service Class User.

References
----------
DICOM PS3.4 Annex C (Query/Retrieve, Study Root); PS3.4 C.3.4 for the optional key
Number of Series Related Instances (0020,1209).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.errors import PeerError
from dicom_node.sender import Peer, open_association

_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SUCCESS: Final = 0x0000


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
        for answer in self._find(keys):
            value = answer.get("NumberOfSeriesRelatedInstances")
            return None if value in (None, "") else int(value)
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
            str(answer.SOPInstanceUID) for answer in self._find(keys) if "SOPInstanceUID" in answer
        )

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
        model = StudyRootQueryRetrieveInformationModelMove
        with self._associated(model) as association:
            responses = association.send_c_move(keys, destination, model)
            status = _last_status(responses)
        if status != _SUCCESS:
            said = "nothing" if status is None else f"status {status:04X}"
            raise PeerError(f"{self.peer.label} answered C-MOVE to {destination} with {said}")

    def _find(self, keys: Dataset) -> Iterator[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        with self._associated(model) as association:
            answers, status = [], None
            for response, identifier in association.send_c_find(keys, model):
                status = getattr(response, "Status", None)
                if status in _PENDING and identifier is not None:
                    answers.append(identifier)
        if status != _SUCCESS:
            said = "nothing" if status is None else f"status {status:04X}"
            raise PeerError(f"{self.peer.label} answered C-FIND with {said}")
        yield from answers

    @contextmanager
    def _associated(self, model: str) -> Iterator[Association]:
        contexts = [build_context(model)]
        with open_association(
            self.peer, contexts, self.calling_ae_title, self.timeout_s
        ) as association:
            if not association.accepted_contexts:
                raise PeerError(f"{self.peer.label} does not answer such queries")
            yield association


def _keys(level: str, study_instance_uid: str, series_instance_uid: str) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    keys.StudyInstanceUID = study_instance_uid
    keys.SeriesInstanceUID = series_instance_uid
    return keys


def _last_status(responses: Iterator[tuple[Dataset, Dataset | None]]) -> int | None:
    status = None
    for response, _ in responses:
        status = getattr(response, "Status", None)
    return status
