"""The records that the node keeps: instances, series with their life, deliveries.

Times are aware and in UTC. UIDs identify everything; no record holds a patient's name or ID.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicom_node.routes import Route


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance that lies in the spool, flushed to disk.

    Parameters
    ----------
    sop_instance_uid, sop_class_uid, series_instance_uid, study_instance_uid : str
    transfer_syntax_uid : str
    calling_ae_title : str
    sender_address : str
        IP address of the peer.
    path : Path
        Relative to the spool.
    sha256 : str
        Hexadecimal digest of the data set as received, without file meta information.
    size_bytes : int
    patient_key : str
        Keyed digest of the patient's identity: tells two patients apart, names none.
    received_at : datetime
    accession_key, patient_id_key : str or None
        Keyed digests by which the series is found; the ledger keeps those of its first image.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    sender_address: str
    path: Path
    sha256: str
    size_bytes: int
    patient_key: str
    received_at: datetime
    accession_key: str | None = None
    patient_id_key: str | None = None


class StoredAs(StrEnum):
    """What the ledger found an instance to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


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


class Switch(StrEnum):
    """What a person has told the whole node to do."""

    ANALYSIS_PAUSED = "analysis_paused"
    """No further series is handed to a worker."""
    DELIVERY_PAUSED = "delivery_paused"
    """No further result is handed out for delivery."""
    DRAINING = "draining"
    """New associations are refused, what is under way is finished, then the listener stops."""


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """A switch that is on.

    Parameters
    ----------
    switch : Switch
    set_at : datetime
    set_by : str
        Account of the person.
    """

    switch: Switch
    set_at: datetime
    set_by: str


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


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at.

    Parameters
    ----------
    code : str
        Stable, like the codes of errors.
    subject : str
        What it is about: a Series Instance UID, the name of a destination.
    message : str
        One sentence.
    raised_at, last_at : datetime
        The first and the last time.
    occurrences : int
    cleared_at : datetime or None
        ``None`` while it stands.
    """

    code: str
    subject: str
    message: str
    raised_at: datetime
    last_at: datetime
    occurrences: int
    cleared_at: datetime | None


@dataclass(frozen=True, slots=True)
class ResultObject:
    """A result object that this node made, as others may refer to it.

    Parameters
    ----------
    name : str
        Of its builder, such as ``"sr"``.
    sop_class_uid, sop_instance_uid, series_instance_uid : str
        Its own.
    """

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One measurement that this node made, with the objects that state it.

    Parameters
    ----------
    series_instance_uid : str
        Of the ledger's series that led to it: the images, or a corrected segmentation.
    revision : int
    version : str
        Digest of software, models, cut-offs and prior: the same images measured with other
        weights are another version.
    source_series_uid : str
        The measured images.
    study_instance_uid : str
    study_date : date or None
        Of the images.
    by_reader : bool
        Whether a reader corrected the mask.
    measurement : mapping
        As in ``measurement.json``.
    objects : tuple of ResultObject
        In the order in which they were made.
    """

    series_instance_uid: str
    revision: int
    version: str
    source_series_uid: str
    study_instance_uid: str
    study_date: date | None
    by_reader: bool
    measurement: Mapping[str, Any]
    objects: tuple[ResultObject, ...]

    @property
    def origin(self) -> tuple[str, int, str]:
        """What tells it from every other one."""
        return self.series_instance_uid, self.revision, self.version

    def latest(self, name: str) -> ResultObject | None:
        """Object of a name; the last one when other priors made several."""
        return next((one for one in reversed(self.objects) if one.name == name), None)


@dataclass(frozen=True, slots=True)
class PriorSearch:
    """The search for earlier results of the patient of one revision of a series in a PACS.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    settled : bool
        Nobody is waited for any more.
    sentence : str
        As in "1 earlier report at PACS-A".
    due_at : datetime
        When a PACS that is not heard is not waited for any longer; when it was settled.
    found : tuple of ResultEntry
        The first one first.
    """

    series_instance_uid: str
    revision: int
    settled: bool
    sentence: str
    due_at: datetime
    found: tuple[ResultEntry, ...] = ()
