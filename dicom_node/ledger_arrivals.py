"""Record a batch of instances within a transaction that the ledger opened.

Most images only continue a series that is being received. Those of one series take four
statements together; anything else takes the long way of ``ledger_steps.add_instance``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from dicom_node import records
from dicom_node.config import CompletionSettings
from dicom_node.ledger_steps import add_instance, instance_values
from dicom_node.records import ReceivedInstance, StoredAs
from dicom_node.schema import INSTANCE, SERIES

KNOWN: Final = select(INSTANCE.c.sop_instance_uid).where(
    INSTANCE.c.sop_instance_uid == bindparam("uid")
)
SERIES_STATE: Final = (
    select(
        SERIES.c.state,
        SERIES.c.patient_key,
        SERIES.c.study_instance_uid,
        SERIES.c.last_received_at,
        SERIES.c.revision_started_at,
    )
    .where(SERIES.c.series_instance_uid == bindparam("uid"))
    .with_for_update()
)
INSERT: Final = insert(INSTANCE)
CONTINUE: Final = (
    update(SERIES)
    .where(SERIES.c.series_instance_uid == bindparam("uid"))
    .values(
        instance_count=SERIES.c.instance_count + bindparam("number"),
        last_received_at=bindparam("last"),
        due_at=bindparam("due"),
        updated_at=bindparam("at"),
    )
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance that lies in the spool, with the completion rule of its source."""

    instance: ReceivedInstance
    completion: CompletionSettings


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The columns of a series that decide whether an instance only continues it."""

    state: str
    patient_key: str
    study_instance_uid: str
    last_received_at: datetime
    revision_started_at: datetime


def add_arrivals(connection: Connection, arrivals: Sequence[Arrival]) -> list[StoredAs]:
    """Record instances in their order; return what each one was found to be."""
    found: dict[int, StoredAs] = {}
    for group in by_series(arrivals):
        if _continue_series(connection, group):
            found.update((id(arrival), StoredAs.NEW) for arrival in group)
            continue
        for arrival in group:
            found[id(arrival)] = add_instance(connection, arrival.instance, arrival.completion)
    return [found[id(arrival)] for arrival in arrivals]


def by_series(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Give the arrivals of each series, in their order.

    Series come in the order of their UIDs, so that two listeners cannot wait for each other.
    """
    groups: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        groups.setdefault(arrival.instance.series_instance_uid, []).append(arrival)
    for _, group in sorted(groups.items()):
        yield group


def continuation(series: SeriesState, group: Sequence[Arrival]) -> dict[str, Any] | None:
    """Parameters of ``CONTINUE``, ``None`` when instances mean more than that to their series.

    Parameters
    ----------
    series : SeriesState
    group : sequence of Arrival
        All of that series, none of them known to the ledger.
    """
    instances = [arrival.instance for arrival in group]
    if series.state != records.SeriesState.RECEIVING or not _fit(series, instances):
        return None
    last = group[-1]
    at = last.instance.received_at
    quiet_until = at + timedelta(seconds=last.completion.quiet_s)
    cap = series.revision_started_at + timedelta(seconds=last.completion.cap_s)
    return {
        "uid": last.instance.series_instance_uid,
        "number": len(instances),
        # The clock may step back.
        "last": max(series.last_received_at, *(item.received_at for item in instances)),
        "due": min(quiet_until, cap),
        "at": at,
    }


def _continue_series(connection: Connection, group: Sequence[Arrival]) -> bool:
    instances = [arrival.instance for arrival in group]
    uid = {"uid": instances[0].series_instance_uid}
    row = connection.execute(SERIES_STATE, uid).one_or_none()
    change = None if row is None else continuation(SeriesState(*row), group)
    if change is None:
        return False
    for instance in instances:
        if connection.execute(KNOWN, {"uid": instance.sop_instance_uid}).first() is not None:
            return False
    connection.execute(INSERT, [instance_values(instance) for instance in instances])
    connection.execute(CONTINUE, change)
    return True


def _fit(series: SeriesState, instances: Sequence[ReceivedInstance]) -> bool:
    are_different = len({item.sop_instance_uid for item in instances}) == len(instances)
    return are_different and all(
        instance.patient_key == series.patient_key
        and instance.study_instance_uid == series.study_instance_uid
        for instance in instances
    )
