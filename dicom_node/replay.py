"""Choose series that are to be measured again by another model, and have it done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Final

from dicom_node import __version__
from dicom_node.administration import Order
from dicom_node.corrections import is_segmentation
from dicom_node.inspection import find_series
from dicom_node.ledger import Ledger
from dicom_node.ledger_queries import series_with_keys, series_with_uid
from dicom_node.model_store import ModelKind, installed_model, keys_of
from dicom_node.records import TRANSITIONS, SeriesEvent, SeriesRecord, SeriesState
from dicom_node.search_keys import SearchAttribute, typed_keys
from dicom_node.spool import Spool

_ALL: Final = 1_000_000
_USUAL: Final = (SeriesState.DELIVERED, SeriesState.PARTLY_DELIVERED, SeriesState.FAILED)
"""States that a range of dates is about when none is named."""


class Plan(StrEnum):
    """What becomes of a series that was chosen."""

    REPLAY = "replay"
    """It is measured again, and its results are delivered."""
    SILENT = "silent"
    """It is measured again for the record alone."""
    SAME = "same"
    """This software has measured it by this model already."""
    NOT_ENDED = "not_ended"
    """It is on its way, and will be measured by the active model."""
    RELEASED = "released"
    """Its images were deleted."""
    CORRECTION = "correction"
    """It is a reader's segmentation, which no model measures."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which series.

    Parameters
    ----------
    uids : tuple of str
        Of series or studies, or the ends of those of series.
    accession : str
        Accession number; empty for any.
    since, until : date or None
        Days of the last image in UTC, both included.
    states : tuple of SeriesState
    """

    uids: tuple[str, ...] = ()
    accession: str = ""
    since: date | None = None
    until: date | None = None
    states: tuple[SeriesState, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self == Selection()


@dataclass(frozen=True, slots=True)
class Planned:
    """One series, and what becomes of it."""

    series: SeriesRecord
    plan: Plan


def select(selection: Selection, ledger: Ledger, spool: Spool) -> tuple[SeriesRecord, ...]:
    """Find the series of a selection; every condition that is given must hold.

    Raises
    ------
    UnknownSeriesError
        A UID is that of no series or study.
    """
    found = _named(selection, ledger, spool)
    if found is None:
        found = ledger.list_series(selection.states or _USUAL, _ALL)
    return tuple(record for record in found if _fits(record, selection))


def plan(
    records: Sequence[SeriesRecord],
    model: str | None,
    ledger: Ledger,
    spool: Spool,
    *,
    silent: bool = False,
) -> tuple[Planned, ...]:
    """Say what becomes of each series.

    Parameters
    ----------
    records : sequence of SeriesRecord
    model : str or None
        Key of an installed model; ``None`` for the active one.
    ledger : Ledger
    spool : Spool
    silent : bool
        Nothing is to be delivered.

    Raises
    ------
    UnknownModelError
    """
    if model is not None:
        installed_model(model, spool)
    wanted = _wanted(model, ledger.models.active())
    return tuple(
        Planned(record, _plan_of(record, wanted, ledger, silent=silent)) for record in records
    )


def carry_out(
    planned: Sequence[Planned], model: str | None, ledger: Ledger, order: Order
) -> tuple[SeriesRecord, ...]:
    """Do what was planned; return the series that are measured again.

    Raises
    ------
    StaleRevisionError, IllegalTransitionError
        A series has moved on since it was planned.
    """
    done = []
    for one in planned:
        record = one.series
        if one.plan is Plan.REPLAY:
            ledger.models.replay(record, model, order.at, order.reason)
        elif one.plan is Plan.SILENT and model is not None:
            key = (record.series_instance_uid, record.revision, model)
            ledger.shadows.ask(key, order.by, order.at, again=True)
        else:
            continue
        done.append(record)
    return tuple(done)


def _wanted(model: str | None, active: Mapping[ModelKind, str]) -> frozenset[str]:
    """Keys of which a measurement needs no repetition; none where the settings name the weights."""
    if model is not None:
        return frozenset({model})
    return frozenset(active.values()) if ModelKind.SEGMENTER in active else frozenset()


def _named(selection: Selection, ledger: Ledger, spool: Spool) -> tuple[SeriesRecord, ...] | None:
    if selection.accession:
        secret = spool.patient_secret()
        keys = typed_keys(SearchAttribute.ACCESSION_NUMBER, selection.accession, secret)
        found = ledger.read(partial(series_with_keys, keys=keys))
        return tuple(r for r in found if not selection.uids or _is_named(r, selection.uids))
    if not selection.uids:
        return None
    records: dict[str, SeriesRecord] = {}
    for uid in selection.uids:
        of_uid = ledger.read(partial(series_with_uid, uid=uid)) or (find_series(uid, ledger),)
        records.update((record.series_instance_uid, record) for record in of_uid)
    return tuple(records.values())


def _is_named(record: SeriesRecord, uids: Sequence[str]) -> bool:
    return any(
        record.series_instance_uid.endswith(uid) or record.study_instance_uid == uid for uid in uids
    )


def _fits(record: SeriesRecord, selection: Selection) -> bool:
    day = record.last_received_at.date()
    return (
        (selection.since is None or day >= selection.since)
        and (selection.until is None or day <= selection.until)
        and (not selection.states or record.state in selection.states)
    )


def _plan_of(record: SeriesRecord, models: frozenset[str], ledger: Ledger, *, silent: bool) -> Plan:
    uid = record.series_instance_uid
    if record.released_at is not None:
        return Plan.RELEASED
    if is_segmentation(ledger.own_instances(uid)):
        return Plan.CORRECTION
    if not silent and (record.state, SeriesEvent.REPLAY_REQUESTED) not in TRANSITIONS:
        return Plan.NOT_ENDED
    if models and _is_measured(record, models, ledger):
        return Plan.SAME
    return Plan.SILENT if silent else Plan.REPLAY


def _is_measured(record: SeriesRecord, models: frozenset[str], ledger: Ledger) -> bool:
    return any(
        entry.revision == record.revision
        and not entry.by_reader
        and entry.measurement.get("software_version") == __version__
        and models <= keys_of(entry.measurement)
        for entry in ledger.results.of_series(record.series_instance_uid)
    )
