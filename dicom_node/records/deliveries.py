"""Results on their way to destinations, with the table of that life."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result object in the spool, waiting to be delivered.

    Parameters
    ----------
    sop_instance_uid, sop_class_uid, transfer_syntax_uid : str
    path : Path
        Relative to the spool.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path


class DeliveryState(StrEnum):
    """Where one result object stands on its way to one destination."""

    QUEUED = "queued"
    SENT = "sent"
    """A task has taken it and its answer is awaited."""
    ACCEPTED = "accepted"
    """The destination answered that it has it."""
    COMMITTED = "committed"
    """The destination took over responsibility for it (PS3.4 Annex J)."""
    REFUSED = "refused"
    """The PACS does not take this object, now or later."""
    DEAD = "dead"
    SUPERSEDED = "superseded"


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    CLAIMED = "claimed"
    ACCEPTED = "accepted"
    POSTPONED = "postponed"
    REFUSED = "refused"
    GIVEN_UP = "given_up"
    COMMITTED = "committed"
    NOT_COMMITTED = "not_committed"
    COMMITMENT_REFUSED = "commitment_refused"
    SUPERSEDED = "superseded"
    RESUMED = "resumed"


def _delivery_transitions() -> dict[tuple[DeliveryState, DeliveryEvent], DeliveryState]:
    s, e = DeliveryState, DeliveryEvent
    table = {
        (s.ACCEPTED, e.COMMITMENT_REFUSED): s.DEAD,
        (s.ACCEPTED, e.NOT_COMMITTED): s.QUEUED,
    }
    for over in (s.DEAD, s.REFUSED, s.SUPERSEDED):
        table[over, e.RESUMED] = s.QUEUED
    for state in s:
        # What the destination says it has, it has, however late the answer is.
        table[state, e.ACCEPTED] = s.COMMITTED if state is s.COMMITTED else s.ACCEPTED
        table[state, e.COMMITTED] = s.COMMITTED
    for waiting in (s.QUEUED, s.SENT):
        table[waiting, e.CLAIMED] = s.SENT
        table[waiting, e.POSTPONED] = s.QUEUED
        table[waiting, e.REFUSED] = s.REFUSED
        table[waiting, e.GIVEN_UP] = s.DEAD
        table[waiting, e.SUPERSEDED] = s.SUPERSEDED
    return table


DELIVERY_TRANSITIONS: Final = _delivery_transitions()
"""The life of a delivery; an event whose pair is not here changes nothing."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result object on its way to one destination; the key is (SOP UID, destination).

    Parameters
    ----------
    result : ResultFile
    destination : str
        Name in the settings.
    series_instance_uid : str
        Of the measured series, not of the result.
    revision : int
    state : DeliveryState
    attempts : int
    queued_at : datetime
    next_attempt_at : datetime
        When something is to be done: store it, ask for commitment, or store it again because no
        report came.
    status : int or None
        Last C-STORE status.
    detail : str
        Last outcome in words.
    transaction_uid : str or None
        Of the storage commitment asked for last; ``None`` when none is awaited.
    """

    result: ResultFile
    destination: str
    series_instance_uid: str
    revision: int
    state: DeliveryState
    attempts: int
    queued_at: datetime
    next_attempt_at: datetime
    status: int | None
    detail: str
    transaction_uid: str | None = None


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What an N-EVENT-REPORT of Storage Commitment says (PS3.4 J.3.3).

    Parameters
    ----------
    transaction_uid : str
    committed : frozenset of str
        SOP Instance UIDs that the peer has taken responsibility for.
    failed : mapping of str to int
        SOP Instance UID and Failure Reason (0008,1197).
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]
