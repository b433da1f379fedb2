"""What an administrator does with series and the node: the command line and the console call it."""

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from dicom_node.errors import IllegalTransitionError
from dicom_node.inspection import find_series
from dicom_node.ledger import Ledger
from dicom_node.ledger_queries import series_with_keys, series_with_uid
from dicom_node.records import (
    TRANSITIONS,
    DeliveryState,
    Reason,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
    Switch,
)
from dicom_node.search_keys import SearchAttribute, typed_keys
from dicom_node.spool import Spool
from dicom_node.uids import is_uid

BY_OPERATOR: Final = "BY_OPERATOR"
"""Code of the reason that a person gives."""

_BEFORE_DELIVERY: Final = (
    SeriesState.RECEIVING,
    SeriesState.COMPLETE,
    SeriesState.QUEUED,
    SeriesState.ANALYZING,
    SeriesState.ANALYZED,
)

_DELIVERED: Final = frozenset({DeliveryState.ACCEPTED, DeliveryState.COMMITTED})
_ON_THE_WAY: Final = frozenset({DeliveryState.QUEUED, DeliveryState.SENT})


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants something, and why.

    Parameters
    ----------
    by : str
        Account of the person.
    at : datetime
    because : str
        For the history; names no patient.
    """

    by: str
    at: datetime
    because: str = ""

    @property
    def reason(self) -> Reason:
        """What the history says."""
        because = f": {self.because}" if self.because else ""
        return Reason(BY_OPERATOR, f"asked for by {self.by}{because}")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a series is now.

    Parameters
    ----------
    series : SeriesRecord
    ahead : int or None
        Series that a worker gets before this one; ``None`` when it does not wait for one.
    delivered : int
        Result objects that a destination has taken.
    undelivered : int
        Result objects that are still on their way.
    """

    series: SeriesRecord
    ahead: int | None
    delivered: int
    undelivered: int


def whereabouts(term: str, ledger: Ledger, spool: Spool) -> tuple[Whereabouts, ...]:
    """Find series by what people know of them.

    Parameters
    ----------
    term : str
        Accession number, or UID of a study, series, image or result.
    ledger : Ledger
    spool : Spool
        Holds the secret of the digests.
    """
    keys = typed_keys(SearchAttribute.ACCESSION_NUMBER, term, spool.patient_secret())
    found = ledger.read(partial(series_with_keys, keys=keys))
    if not found and is_uid(term):
        found = ledger.read(partial(series_with_uid, uid=term))
    return tuple(_whereabouts(record, ledger) for record in found)


def release_series(uid: str, ledger: Ledger, order: Order) -> SeriesRecord:
    """Let a quarantined series go on as it is.

    Raises
    ------
    UnknownSeriesError
    IllegalTransitionError
        It is not quarantined.
    """
    return _take(uid, SeriesEvent.RELEASED, ledger, order)


def drop_series(uid: str, ledger: Ledger, order: Order) -> SeriesRecord:
    """Give a series up: it is not analysed, and what waits for a PACS is not sent.

    Its images stay in the spool until their retention is over, and ``retry`` brings it back.

    Raises
    ------
    UnknownSeriesError
    IllegalTransitionError
        It has been delivered, or is dropped already.
    """
    return _take(uid, SeriesEvent.DROPPED, ledger, order)


def force_completion(uid: str, ledger: Ledger, order: Order) -> SeriesRecord:
    """Wait no longer for images of a series.

    Raises
    ------
    UnknownSeriesError
    IllegalTransitionError
        It is complete already.
    """
    return _take(uid, SeriesEvent.COMPLETION_FORCED, ledger, order)


def turn_on(switches: Sequence[Switch], ledger: Ledger, order: Order) -> None:
    """Tell the whole node something."""
    for switch in switches:
        ledger.turn_on(switch, order.by, order.at)


def under_way(ledger: Ledger) -> int:
    """Count what a drained node has finished: series on their way and results never yet sent.

    What is paused, and results that a PACS has refused for now, do not count: they wait in the
    ledger for the next start.
    """
    counts, switches = ledger.counts(), ledger.switches()
    waiting = {
        Switch.ANALYSIS_PAUSED: {SeriesState.COMPLETE},
        Switch.DELIVERY_PAUSED: {SeriesState.ANALYZED},
    }
    paused = {state for switch in switches for state in waiting.get(switch, ())}
    fresh = 0 if Switch.DELIVERY_PAUSED in switches else ledger.deliveries.count_untried()
    return fresh + sum(counts.get(state, 0) for state in _BEFORE_DELIVERY if state not in paused)


def account_name() -> str:
    """Name of the account that this process runs under."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _take(uid: str, event: SeriesEvent, ledger: Ledger, order: Order) -> SeriesRecord:
    record = find_series(uid, ledger)
    if (record.state, event) not in TRANSITIONS:
        possible = [state.value for state, possible in TRANSITIONS if possible is event]
        raise IllegalTransitionError(
            f"series {record.series_instance_uid} is {record.state.value}; "
            f"this needs one that is {' or '.join(possible)}"
        )
    return ledger.advance(
        record.series_instance_uid,
        event,
        order.at,
        revision=record.revision,
        reason=order.reason,
    )


def _whereabouts(record: SeriesRecord, ledger: Ledger) -> Whereabouts:
    states = [
        delivery.state
        for delivery in ledger.deliveries.of(record.series_instance_uid)
        if delivery.revision == record.revision
    ]
    return Whereabouts(
        series=record,
        ahead=_ahead(record, ledger),
        delivered=sum(state in _DELIVERED for state in states),
        undelivered=sum(state in _ON_THE_WAY for state in states),
    )


def _ahead(record: SeriesRecord, ledger: Ledger) -> int | None:
    counts = ledger.counts()
    if record.state is SeriesState.QUEUED:
        return counts.get(SeriesState.QUEUED, 1) - 1
    if record.state is not SeriesState.COMPLETE:
        return None
    waiting = [other.series_instance_uid for other in ledger.complete_series()]
    place = waiting.index(record.series_instance_uid) if waiting else 0
    return place + counts.get(SeriesState.QUEUED, 0)
