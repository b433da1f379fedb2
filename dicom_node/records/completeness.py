"""What others say of how many images a series has."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

TIMER_ONLY: Final = "timer only"
"""What is said of the completeness of a series that nobody confirmed."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of the completeness of one revision of a series.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    settled : bool
        Nobody is waited for any more.
    sentence : str
        As in "412 of 412, confirmed by PACS-A" or "timer only".
    due_at : datetime
        When a PACS that is not heard is not waited for any longer; when it was settled.
    """

    series_instance_uid: str
    revision: int
    settled: bool
    sentence: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Announcement:
    """Images of a series that a peer says there are.

    Parameters
    ----------
    series_instance_uid : str
    kind : str
        ``"IAN"`` (Instance Availability Notification) or ``"MPPS"``.
    said_by : str
        AE title.
    said_at : datetime
    sop_instance_uids : frozenset of str
    """

    series_instance_uid: str
    kind: str
    said_by: str
    said_at: datetime
    sop_instance_uids: frozenset[str]
