"""Series, with the table of their life."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from dicom_node.routes import Route


class SeriesState(StrEnum):
    """Where a series stands."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    QUEUED = "queued"
    ANALYZING = "analyzing"
    ANALYZED = "analyzed"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    PARTLY_DELIVERED = "partly_delivered"
    SKIPPED = "skipped"
    QUARANTINED = "quarantined"
    FAILED = "failed"
    DROPPED = "dropped"


UNDER_WAY: Final = (
    SeriesState.RECEIVING,
    SeriesState.COMPLETE,
    SeriesState.QUEUED,
    SeriesState.ANALYZING,
    SeriesState.ANALYZED,
    SeriesState.DELIVERING,
)
"""States that the node leaves by itself."""


class SeriesEvent(StrEnum):
    """What can happen to a series."""

    INSTANCE_STORED = "instance_stored"
    CONFLICT_FOUND = "conflict_found"
    QUIET_PERIOD_OVER = "quiet_period_over"
    NOT_ELIGIBLE = "not_eligible"
    TASK_SENT = "task_sent"
    WORK_STARTED = "work_started"
    WORK_LOST = "work_lost"
    WORK_FAILED = "work_failed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    IMAGES_UNUSABLE = "images_unusable"
    MEASURED = "measured"
    NOT_MEASURABLE = "not_measurable"
    DELIVERY_STARTED = "delivery_started"
    ALL_DELIVERED = "all_delivered"
    SOME_REFUSED = "some_refused"
    DELIVERY_ABANDONED = "delivery_abandoned"
    DELIVERY_RESUMED = "delivery_resumed"
    RETRY_REQUESTED = "retry_requested"
    REPLAY_REQUESTED = "replay_requested"
    NEXT_BEST = "next_best"
    COMPLETION_FORCED = "completion_forced"
    RELEASED = "released"
    DROPPED = "dropped"


def _transitions() -> dict[tuple[SeriesState, SeriesEvent], SeriesState]:
    s, e = SeriesState, SeriesEvent
    table = {
        (s.RECEIVING, e.QUIET_PERIOD_OVER): s.COMPLETE,
        (s.COMPLETE, e.NOT_ELIGIBLE): s.SKIPPED,
        (s.COMPLETE, e.TASK_SENT): s.QUEUED,
        (s.QUEUED, e.WORK_STARTED): s.ANALYZING,
        # A second worker may take over what a first one lost before the ledger heard of it.
        (s.ANALYZING, e.WORK_STARTED): s.ANALYZING,
        (s.DELIVERING, e.DELIVERY_STARTED): s.DELIVERING,
        (s.ANALYZED, e.DELIVERY_STARTED): s.DELIVERING,
        # A site without destinations keeps its results in the spool.
        (s.ANALYZED, e.ALL_DELIVERED): s.DELIVERED,
        (s.DELIVERING, e.ALL_DELIVERED): s.DELIVERED,
        (s.DELIVERING, e.SOME_REFUSED): s.PARTLY_DELIVERED,
        (s.DELIVERING, e.DELIVERY_ABANDONED): s.FAILED,
        # Somebody mended the PACS and sends its dead letters again.
        (s.FAILED, e.DELIVERY_RESUMED): s.DELIVERING,
        (s.PARTLY_DELIVERED, e.DELIVERY_RESUMED): s.DELIVERING,
        (s.RECEIVING, e.COMPLETION_FORCED): s.COMPLETE,
        (s.QUARANTINED, e.RELEASED): s.COMPLETE,
        # The series of its study that was preferred to it cannot be measured.
        (s.SKIPPED, e.NEXT_BEST): s.COMPLETE,
    }
    for working in (s.QUEUED, s.ANALYZING):
        # The outcome can overtake the news that the work began.
        table[working, e.MEASURED] = s.ANALYZED
        table[working, e.NOT_MEASURABLE] = s.SKIPPED
        table[working, e.WORK_LOST] = s.COMPLETE
        table[working, e.WORK_FAILED] = s.FAILED
        table[working, e.ATTEMPTS_EXHAUSTED] = s.QUARANTINED
        # A worker cannot read them; unlike a conflict that arrives this is about the same images.
        table[working, e.IMAGES_UNUSABLE] = s.QUARANTINED
    for state in s:
        # Late images start a new revision; what is quarantined waits for a person.
        table[state, e.INSTANCE_STORED] = s.QUARANTINED if state is s.QUARANTINED else s.RECEIVING
        table[state, e.CONFLICT_FOUND] = s.QUARANTINED
        # What a PACS has taken cannot be dropped any more.
        if state not in {s.DELIVERED, s.PARTLY_DELIVERED, s.DROPPED}:
            table[state, e.DROPPED] = s.DROPPED
    # A person has dropped the series, so late images do not bring it back.
    table[s.DROPPED, e.INSTANCE_STORED] = table[s.DROPPED, e.CONFLICT_FOUND] = s.DROPPED
    delivered = (s.DELIVERED, s.PARTLY_DELIVERED)
    for ended in (s.SKIPPED, s.QUARANTINED, s.FAILED, s.DROPPED, *delivered):
        table[ended, e.RETRY_REQUESTED] = s.COMPLETE
        table[ended, e.REPLAY_REQUESTED] = s.COMPLETE
    return table


TRANSITIONS: Final = _transitions()
"""The life of a series; a pair that is not here cannot happen."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a series is where it is: a stable code with one sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """One series as the ledger knows it.

    Parameters
    ----------
    series_instance_uid, study_instance_uid : str
    state : SeriesState
    reason : Reason or None
        Why it was skipped, quarantined or failed.
    revision : int
        Counts from 1; grows when images arrive after work on the series began, so that the
        outcome of older work is told apart.
    attempt : int
        How often this revision was sent to a worker.
    order_number : int
        Of the last task sent; it never comes again, so that news of older tasks is told apart.
    instance_count : int
    source_ae_title : str
        Calling AE title of the first image.
    first_received_at, last_received_at : datetime
    due_at : datetime or None
        When the quiet period ends (receiving) or the work counts as lost (queued, analyzing).
    queued_at : datetime or None
        When this revision was first sent to a worker: the content time of its results.
    updated_at : datetime
    released_at : datetime or None
        When retention let go of its images.
    route : Route or None
        What the rules decided about this revision; ``None`` until they have.
    model : str or None
        Key of the model that somebody asked for; ``None`` takes the active one.
    """

    series_instance_uid: str
    study_instance_uid: str
    state: SeriesState
    reason: Reason | None
    revision: int
    attempt: int
    order_number: int
    instance_count: int
    source_ae_title: str
    first_received_at: datetime
    last_received_at: datetime
    due_at: datetime | None
    queued_at: datetime | None
    updated_at: datetime
    released_at: datetime | None = None
    route: Route | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step in the life of a series."""

    series_instance_uid: str
    at: datetime
    event: str
    state: SeriesState
    revision: int
    reason: Reason | None
