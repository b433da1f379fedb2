"""What all who ask an archive have in common: the association, the answers, the last status.

References
----------
DICOM PS3.4 Annex C (Query/Retrieve, Study Root: C-FIND, C-GET, C-MOVE).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from dicom_node.errors import PeerError
from dicom_node.sender import Peer, open_association

# PS3.4 C.6.2.1; made at run time in pynetdicom, so a type checker does not know the names there.
FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"

_PENDING: Final = frozenset({0xFF00, 0xFF01})
_SUCCESS: Final = 0x0000


@dataclass(frozen=True, slots=True)
class Intake:
    """What C-GET may bring on the association that we open, with us as provider of Storage.

    Parameters
    ----------
    sop_classes : sequence of str
    transfer_syntaxes : sequence of str
    keep : callable
        Answers each C-STORE with a status.
    """

    sop_classes: Sequence[str]
    transfer_syntaxes: Sequence[str]
    keep: Callable[[Event], int]


@dataclass(frozen=True, slots=True)
class Inquirer:
    """Asks one archive.

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

    @contextmanager
    def associated(self, *models: str, intake: Intake | None = None) -> Iterator[Association]:
        """Associate for some of ``FIND``, ``MOVE`` and ``GET``; ``GET`` needs an intake.

        Raises
        ------
        PeerError
            No association, or the archive does not answer all of that.
        """
        contexts, roles, handlers = [build_context(model) for model in models], [], []
        if intake is not None:
            syntaxes: list[str | UID] = list(intake.transfer_syntaxes)
            contexts += [build_context(sop_class, syntaxes) for sop_class in intake.sop_classes]
            roles = [build_role(sop_class, scp_role=True) for sop_class in intake.sop_classes]
            handlers = [(evt.EVT_C_STORE, intake.keep)]
        with open_association(
            self.peer, contexts, self.calling_ae_title, self.timeout_s, handlers, roles
        ) as association:
            accepted = {one.abstract_syntax for one in association.accepted_contexts}
            if not accepted.issuperset(models):
                raise PeerError(f"{self.peer.label} does not answer such queries")
            yield association

    def find_once(self, keys: Dataset) -> list[Dataset]:
        """Ask one question (C-FIND), in an association of its own.

        Raises
        ------
        PeerError
        """
        with self.associated(FIND) as association:
            return self.find(association, keys)

    def find(self, association: Association, keys: Dataset) -> list[Dataset]:
        """Ask one question of several (C-FIND).

        Raises
        ------
        PeerError
            The archive did not answer it to the end.
        """
        answers, status = [], None
        for response, identifier in association.send_c_find(keys, FIND):
            status = response.get("Status")
            if status in _PENDING and identifier is not None:
                answers.append(identifier)
        self._check(status, "C-FIND")
        return answers

    def get(self, association: Association, keys: Dataset) -> None:
        """Have it store what the keys name on this association (C-GET).

        Raises
        ------
        PeerError
            It did not send all of it.
        """
        self._check(_last_status(association.send_c_get(keys, GET)), "C-GET")

    def move(self, association: Association, keys: Dataset, destination: str) -> None:
        """Have it store what the keys name at an AE title that it knows (C-MOVE).

        Raises
        ------
        PeerError
            It did not send all of it.
        """
        responses = association.send_c_move(keys, destination, MOVE)
        self._check(_last_status(responses), f"C-MOVE to {destination}")

    def _check(self, status: int | None, question: str) -> None:
        if status != _SUCCESS:
            answer = "nothing" if status is None else f"status {status:04X}"
            raise PeerError(f"{self.peer.label} answered {question} with {answer}")


def level_keys(level: str, **uids: str) -> Dataset:
    """Keys of a level of the hierarchy (PS3.4 C.6.2); an empty value is asked for.

    Parameters
    ----------
    level : str
        ``"STUDY"``, ``"SERIES"`` or ``"IMAGE"``.
    **uids : str
        By keyword, such as ``StudyInstanceUID``.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    for keyword, value in uids.items():
        setattr(keys, keyword, value)
    return keys


def _last_status(responses: Iterator[tuple[Dataset, Dataset | None]]) -> int | None:
    status = None
    for response, _ in responses:
        status = response.get("Status")
    return status
