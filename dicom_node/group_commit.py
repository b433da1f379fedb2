"""Let instances that arrive at the same time share one transaction of the ledger.

Whoever comes first commits for everybody who came meanwhile; nobody waits for company. Each
answer is held until the ledger has the instance.
"""

import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import LedgerError, SpoolError
from dicom_node.ledger import Ledger
from dicom_node.ledger_arrivals import Arrival
from dicom_node.part_file import PartFile
from dicom_node.records import StoredAs
from dicom_node.spool import Spool


@dataclass(slots=True)
class _Request:
    part: PartFile
    path: Path
    arrival: Arrival
    outcome: StoredAs | SpoolError | LedgerError | None = None


class GroupCommit:
    """The last steps of every instance: its name, then its record.

    Parameters
    ----------
    spool : Spool
    ledger : Ledger
    """

    def __init__(self, spool: Spool, ledger: Ledger) -> None:
        self._spool = spool
        self._ledger = ledger
        self._waiting: deque[_Request] = deque()
        self._turn = threading.Lock()

    def commit(self, part: PartFile, arrival: Arrival) -> StoredAs:
        """Publish a flushed file and record it.

        Raises
        ------
        SpoolError, LedgerError
            The instance is not recorded.
        """
        request = _Request(part, arrival.instance.path, arrival)
        self._waiting.append(request)
        with self._turn:
            if request.outcome is None:
                self._commit_waiting()
        if isinstance(request.outcome, SpoolError | LedgerError):
            raise request.outcome
        if request.outcome is None:
            raise LedgerError("the ledger did not take the instance")
        return request.outcome

    def _commit_waiting(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for request in batch:
            request.outcome = self._spool.publish(request.part, request.path)
        named = [request for request in batch if request.outcome is None]
        if not named:
            return
        try:
            found = self._ledger.record_arrivals([request.arrival for request in named])
        except LedgerError as error:
            for request in named:
                request.outcome = error
            return
        for request, stored_as in zip(named, found, strict=True):
            request.outcome = stored_as
