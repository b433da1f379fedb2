"""What an administrator asks of the ledger: what is going on, what happened, once more."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from dicom_node.config import NodeSettings
from dicom_node.errors import (
    IllegalTransitionError,
    ImagesReleasedError,
    LedgerError,
    UnknownSeriesError,
)
from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome
from dicom_node.records import (
    TIMER_ONLY,
    TRANSITIONS,
    Delivery,
    HistoryEntry,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
    SwitchRecord,
)
from dicom_node.spool import Spool

_ALL_SERIES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Overview:
    """How many series are in which state, with the latest ones and what the node was told."""

    counts: Mapping[SeriesState, int]
    series: tuple[SeriesRecord, ...]
    switches: tuple[SwitchRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that is known of one series.

    Parameters
    ----------
    series : SeriesRecord
    history : tuple of HistoryEntry
    deliveries : tuple of Delivery
    measurement : mapping
        As in ``measurement.json``; empty without one.
    completeness : str
        Who says that all images are here.
    priors : str or None
        What a PACS said of earlier results; ``None`` when none was asked.
    """

    series: SeriesRecord
    history: tuple[HistoryEntry, ...]
    deliveries: tuple[Delivery, ...]
    measurement: Mapping[str, Any]
    completeness: str = TIMER_ONLY
    priors: str | None = None


@contextmanager
def open_ledger(settings: NodeSettings) -> Iterator[Ledger]:
    """Open the ledger of a node that has run before.

    Raises
    ------
    LedgerError
    """
    folder = settings.storage.folder
    if settings.storage.ledger_url is None and not folder.is_dir():
        raise LedgerError(f"there is no ledger yet: psoas serve has not made {folder} so far")
    ledger = Ledger.open(settings.ledger_url)
    try:
        yield ledger
    finally:
        ledger.close()


def overview(ledger: Ledger, states: Collection[SeriesState], limit: int) -> Overview:
    """Count all series, list the latest in any of ``states`` (in any state when empty)."""
    switches = tuple(ledger.switches().values())
    return Overview(ledger.counts(), ledger.list_series(states, limit), switches)


def account_of(uid: str, ledger: Ledger, settings: NodeSettings) -> Account:
    """Collect what is known of a series, named by its UID or the end of it.

    Raises
    ------
    UnknownSeriesError
        There is none, or the end fits several.
    """
    record = find_series(uid, ledger)
    uid = record.series_instance_uid
    content = Spool.of(settings.storage).read_outcome(uid, record.revision)
    measurement = Outcome.from_json(content).measurement if content is not None else {}
    proof = ledger.proofs.of(uid, record.revision)
    search = ledger.prior_searches.of(uid, record.revision)
    return Account(
        record,
        ledger.history(uid),
        ledger.deliveries.of(uid),
        measurement,
        TIMER_ONLY if proof is None else proof.sentence,
        None if search is None else search.sentence,
    )


def find_series(uid: str, ledger: Ledger) -> SeriesRecord:
    """Return the series with this UID, or the only one whose UID ends so.

    Raises
    ------
    UnknownSeriesError
    """
    try:
        return ledger.series(uid)
    except UnknownSeriesError:
        fitting = ledger.series_ending_in(uid)
    if len(fitting) != 1:
        found = "several series end" if fitting else "no series is or ends"
        raise UnknownSeriesError(f"{found} in {uid}; psoas status lists them")
    return fitting[0]


def series_in(ledger: Ledger, states: Collection[SeriesState]) -> list[str]:
    """Series Instance UIDs of all series in any of ``states``; none when it is empty."""
    if not states:
        return []
    return [record.series_instance_uid for record in ledger.list_series(states, _ALL_SERIES)]


def retry_series(uid: str, ledger: Ledger, settings: NodeSettings) -> SeriesRecord:
    """Let a series that ended be analysed and delivered once more.

    Raises
    ------
    UnknownSeriesError
    IllegalTransitionError
        It is still on its way.
    ImagesReleasedError
        Its images are not here any more.
    """
    record = find_series(uid, ledger)
    uid = record.series_instance_uid
    if (record.state, SeriesEvent.RETRY_REQUESTED) not in TRANSITIONS:
        raise IllegalTransitionError(f"series {uid} is {record.state.value}: it has not ended yet")
    if record.released_at is not None:
        raise ImagesReleasedError(f"the images of series {uid} were deleted: send them again")
    Spool.of(settings.storage).discard_outcome(uid, record.revision)
    return ledger.advance(
        uid, SeriesEvent.RETRY_REQUESTED, datetime.now(UTC), revision=record.revision
    )


def resume(
    ledger: Ledger, destination: str | None, series_instance_uid: str | None = None
) -> tuple[Delivery, ...]:
    """Queue dead and refused deliveries again; return them as they were."""
    return ledger.deliveries.resume(destination, datetime.now(UTC), series_instance_uid)
