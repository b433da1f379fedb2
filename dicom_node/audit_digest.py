"""Sum up what happens often, so that the audit trail tells of it without a message for each.

A series comes as hundreds of instances, a port scan as thousands of refusals.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from dicom_node.audit import AuditTrail
from dicom_node.audit_events import AuditedPeer, association_refused, instances_received
from dicom_node.audit_messages import Study

_QUIET: Final = timedelta(seconds=10)
_LONGEST: Final = timedelta(seconds=60)
_MOST_REFUSALS: Final = 1000
"""Peers that are told apart at a time; a scan with forged titles must not fill the memory."""
_OTHERS: Final = AuditedPeer("", "many addresses")


@dataclass(slots=True)
class _Receipt:
    first_at: datetime
    last_at: datetime
    sop_classes: Counter[str] = field(default_factory=Counter)

    def is_over(self, now: datetime) -> bool:
        return now - self.last_at >= _QUIET or now - self.first_at >= _LONGEST


@dataclass(slots=True)
class _Refusals:
    told_at: datetime
    untold: int = 0


class AuditDigest:
    """Counts receipts and refusals and writes what is due to the trail; for any thread.

    What was received shows in the trail once its sender has paused for 10 s, at the latest after
    60 s. The first refusal of a peer shows at once, further ones as a number each minute.

    Parameters
    ----------
    trail : AuditTrail
    """

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail
        self._lock = threading.Lock()
        self._receipts: dict[tuple[AuditedPeer, str, str], _Receipt] = {}
        self._refusals: dict[tuple[AuditedPeer, str], _Refusals] = {}

    def received(
        self, sender: AuditedPeer, study_and_patient: tuple[str, str], sop_class: str, at: datetime
    ) -> None:
        """Count an instance that was acknowledged.

        Parameters
        ----------
        sender : AuditedPeer
        study_and_patient : tuple of str
            Study Instance UID and digest of the patient.
        sop_class : str
        at : datetime
        """
        with self._lock:
            receipt = self._receipts.setdefault((sender, *study_and_patient), _Receipt(at, at))
            receipt.last_at = at
            receipt.sop_classes[sop_class] += 1

    def refused(self, caller: AuditedPeer, reason: str, at: datetime) -> bool:
        """Tell of a refused association, or count it when the trail told of its like just now.

        Returns
        -------
        bool
            Whether this is news.
        """
        with self._lock:
            if (caller, reason) not in self._refusals and len(self._refusals) >= _MOST_REFUSALS:
                caller = _OTHERS
            known = self._refusals.get((caller, reason))
            if known is not None:
                known.untold += 1
                return False
            self._refusals[caller, reason] = _Refusals(at)
        self._trail.note(association_refused(self._trail.ae_title, caller, reason, at))
        return True

    def write_due(self, now: datetime) -> None:
        """Write what is over to the trail."""
        self._write_receipts(now, everything=False)
        self._write_refusals(now, everything=False)

    def write_all(self, now: datetime) -> None:
        """Write everything that was counted: the node stops."""
        self._write_receipts(now, everything=True)
        self._write_refusals(now, everything=True)

    def _write_receipts(self, now: datetime, *, everything: bool) -> None:
        with self._lock:
            over = {
                key: receipt
                for key, receipt in self._receipts.items()
                if everything or receipt.is_over(now)
            }
            for key in over:
                del self._receipts[key]
        for (sender, study_uid, patient), receipt in over.items():
            study = Study(study_uid, dict(receipt.sop_classes))
            self._trail.note(
                instances_received(self._trail.ae_title, sender, study, patient, receipt.last_at)
            )

    def _write_refusals(self, now: datetime, *, everything: bool) -> None:
        with self._lock:
            over = {
                key: known.untold
                for key, known in self._refusals.items()
                if everything or now - known.told_at >= _LONGEST
            }
            for key, untold in over.items():
                del self._refusals[key]
                if untold and not everything:
                    self._refusals[key] = _Refusals(now)
        for (caller, reason), untold in over.items():
            if untold:
                said = f"{reason} ({untold} more times)"
                self._trail.note(association_refused(self._trail.ae_title, caller, said, now))
