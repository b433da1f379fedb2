"""Change the ledger's tables within a transaction that the ledger opened."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.config import CompletionSettings
from dicom_node.errors import (
    IllegalTransitionError,
    SpoolConflictError,
    StaleRevisionError,
    UnknownSeriesError,
)
from dicom_node.ledger_alarms import clear_alarm, raise_alarm
from dicom_node.ledger_rows import to_series
from dicom_node.records import (
    TRANSITIONS,
    DeliveryState,
    Reason,
    ReceivedInstance,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
    StoredAs,
)
from dicom_node.schema import DELIVERY, HISTORY, INSTANCE, SERIES

SERIES_QUARANTINED: Final = "SERIES_QUARANTINED"
"""Code of the alarm about a series that waits for a person."""

_ARRIVALS: Final = (SeriesEvent.INSTANCE_STORED, SeriesEvent.CONFLICT_FOUND)
_WORKING: Final = (SeriesState.QUEUED, SeriesState.ANALYZING)
_INSTANCE_COLUMNS: Final = tuple(column.name for column in INSTANCE.columns)
_instance_columns: Final = attrgetter(*_INSTANCE_COLUMNS)
_OVER: Final = (DeliveryState.DEAD, DeliveryState.REFUSED, DeliveryState.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens to a series.

    Parameters
    ----------
    event : SeriesEvent
    at : datetime
    reason : Reason or None
    due_at : datetime or None
    model : str or None
        Key of the model that a replay is to take; the active one when ``None``.
    """

    event: SeriesEvent
    at: datetime
    reason: Reason | None = None
    due_at: datetime | None = None
    model: str | None = None


def locked_series(
    connection: Connection, series_instance_uid: str, revision: int | None = None
) -> Row[Any]:
    """Row of a series, locked until the transaction ends.

    Raises
    ------
    UnknownSeriesError
    StaleRevisionError
        When ``revision`` is given and the series has moved on from it.
    """
    row = _series_row(connection, series_instance_uid)
    if row is None:
        raise UnknownSeriesError(f"the ledger has no series {series_instance_uid}")
    if revision is not None and revision != row.revision:
        raise StaleRevisionError(
            f"series {series_instance_uid} is at revision {row.revision}, no longer at {revision}"
        )
    return row


def add_instance(
    connection: Connection, instance: ReceivedInstance, completion: CompletionSettings
) -> StoredAs:
    """Insert an instance and take the step that it means for its series."""
    twins = connection.execute(
        select(INSTANCE.c.sha256).where(INSTANCE.c.sop_instance_uid == instance.sop_instance_uid)
    ).scalars()
    digests = set(twins)
    if instance.sha256 in digests:
        return StoredAs.DUPLICATE
    row = _series_row(connection, instance.series_instance_uid)
    if row is None:
        _insert_series(connection, instance)
        row = locked_series(connection, instance.series_instance_uid)
    is_new = row.instance_count == 0
    connection.execute(insert(INSTANCE).values(**instance_values(instance)))
    _count_instance(connection, row, instance)
    conflict = _conflict(row, instance, known=bool(digests))
    if conflict is not None:
        take_step(connection, row, Step(SeriesEvent.CONFLICT_FOUND, instance.received_at, conflict))
        return StoredAs.CONFLICT
    due_at = _quiet_until(row, instance.received_at, completion)
    step = Step(SeriesEvent.INSTANCE_STORED, instance.received_at, due_at=due_at)
    take_step(connection, row, step, first=is_new)
    return StoredAs.NEW


def instance_values(instance: ReceivedInstance) -> dict[str, Any]:
    """Row of ``INSTANCE`` that an instance becomes."""
    # Not asdict: it copies deeply, at ten times the cost.
    values = dict(zip(_INSTANCE_COLUMNS, _instance_columns(instance), strict=True))
    values["path"] = instance.path.as_posix()
    return values


def take_step(
    connection: Connection, row: Row[Any], step: Step, *, first: bool = False
) -> SeriesRecord:
    """Change the state of a series as ``records.TRANSITIONS`` says.

    Raises
    ------
    IllegalTransitionError
    """
    before = SeriesState(row.state)
    after = TRANSITIONS.get((before, step.event))
    if after is None:
        raise IllegalTransitionError(
            f"series {row.series_instance_uid} is {before.value}, "
            f"which {step.event.value} cannot follow"
        )
    reason = step.reason
    if reason is None and after is before and row.reason_code is not None:
        reason = Reason(row.reason_code, row.reason_message)
    changes = {
        "state": after.value,
        "reason_code": reason and reason.code,
        "reason_message": reason and reason.message,
        "due_at": _due(before, after, row, step),
        "updated_at": step.at,
    } | _counters(row, step)
    where = SERIES.c.series_instance_uid == row.series_instance_uid
    connection.execute(update(SERIES).where(where).values(**changes))
    if "revision" in changes:
        _supersede(connection, row.series_instance_uid, "more images arrived")
    elif after is SeriesState.DROPPED:
        _supersede(connection, row.series_instance_uid, "the series was dropped")
    _sound_alarm(connection, row.series_instance_uid, (before, after), reason, step.at)
    stepped = locked_series(connection, row.series_instance_uid)
    # The instances themselves tell of images that only continued a series.
    if first or after is not before or step.event is not SeriesEvent.INSTANCE_STORED:
        write_history(connection, stepped, step.event.value, step.at, step.reason)
    return to_series(stepped)


def write_history(
    connection: Connection, row: Row[Any], event: str, at: datetime, reason: Reason | None
) -> None:
    """Add a line to the history of a series."""
    connection.execute(
        insert(HISTORY).values(
            series_instance_uid=row.series_instance_uid,
            at=at,
            event=event,
            state=row.state,
            revision=row.revision,
            reason_code=reason and reason.code,
            reason_message=reason and reason.message,
        )
    )


def _series_row(connection: Connection, series_instance_uid: str) -> Row[Any] | None:
    where = SERIES.c.series_instance_uid == series_instance_uid
    return connection.execute(select(SERIES).where(where).with_for_update()).one_or_none()


def _insert_series(connection: Connection, instance: ReceivedInstance) -> None:
    on_server = connection.dialect.name == "postgresql"
    insertion = postgresql.insert(SERIES) if on_server else sqlite.insert(SERIES)
    # Another listener may insert the same series at this moment.
    connection.execute(
        insertion.on_conflict_do_nothing().values(
            series_instance_uid=instance.series_instance_uid,
            study_instance_uid=instance.study_instance_uid,
            state=SeriesState.RECEIVING.value,
            revision=1,
            attempt=0,
            instance_count=0,
            source_ae_title=instance.calling_ae_title,
            patient_key=instance.patient_key,
            accession_key=instance.accession_key,
            patient_id_key=instance.patient_id_key,
            first_received_at=instance.received_at,
            last_received_at=instance.received_at,
            revision_started_at=instance.received_at,
            updated_at=instance.received_at,
        )
    )


def _count_instance(connection: Connection, row: Row[Any], instance: ReceivedInstance) -> None:
    connection.execute(
        update(SERIES)
        .where(SERIES.c.series_instance_uid == instance.series_instance_uid)
        .values(
            # Images that were let go are not there any more.
            instance_count=1 if row.released_at else SERIES.c.instance_count + 1,
            released_at=None,
            # The clock may step back.
            last_received_at=max(row.last_received_at, instance.received_at),
        )
    )


def _conflict(row: Row[Any], instance: ReceivedInstance, *, known: bool) -> Reason | None:
    """Why an instance cannot simply join its series."""
    if known:
        fault = f"instance {instance.sop_instance_uid} arrived again with other bytes"
    elif instance.patient_key != row.patient_key:
        fault = f"instance {instance.sop_instance_uid} names another patient than its series"
    elif instance.study_instance_uid != row.study_instance_uid:
        fault = (
            f"instance {instance.sop_instance_uid} names study {instance.study_instance_uid}, "
            f"its series {row.study_instance_uid}"
        )
    else:
        return None
    return Reason(SpoolConflictError.code, fault)


def _quiet_until(row: Row[Any], at: datetime, completion: CompletionSettings) -> datetime:
    started_at = at if _begins_revision(row) else row.revision_started_at
    cap: datetime = started_at + timedelta(seconds=completion.cap_s)
    return min(at + timedelta(seconds=completion.quiet_s), cap)


def _begins_revision(row: Row[Any]) -> bool:
    """Whether an image that arrives now was unknown to work that may have begun."""
    if row.state in {SeriesState.QUARANTINED, SeriesState.DROPPED}:
        return row.queued_at is not None
    return bool(row.state != SeriesState.RECEIVING)


def _due(before: SeriesState, after: SeriesState, row: Row[Any], step: Step) -> datetime | None:
    if after is SeriesState.RECEIVING:
        return step.due_at
    if after not in _WORKING:
        return None
    kept: datetime | None = row.due_at if before in _WORKING else None
    return step.due_at or kept


def _counters(row: Row[Any], step: Step) -> dict[str, Any]:
    match step.event:
        case SeriesEvent.TASK_SENT:
            return {
                "attempt": row.attempt + 1,
                "order_number": row.order_number + 1,
                "queued_at": row.queued_at or step.at,
            }
        case SeriesEvent.WORK_LOST if row.state == SeriesState.QUEUED:
            # No worker began it: the broker lost it, which says nothing about the series.
            return {"attempt": row.attempt - 1}
        case SeriesEvent.RETRY_REQUESTED | SeriesEvent.RELEASED:
            return {"attempt": 0, "route": None, "model": None}
        case SeriesEvent.REPLAY_REQUESTED:
            # Other weights give other objects, so they have a time of their own.
            return {"attempt": 0, "route": None, "model": step.model, "queued_at": None}
        case event if event in _ARRIVALS and _begins_revision(row):
            return {
                "revision": row.revision + 1,
                "attempt": 0,
                "route": None,
                "model": None,
                "queued_at": None,
                "revision_started_at": step.at,
            }
    return {}


def _sound_alarm(
    connection: Connection,
    series_instance_uid: str,
    states: tuple[SeriesState, SeriesState],
    reason: Reason | None,
    at: datetime,
) -> None:
    before, after = states
    quarantined = SeriesState.QUARANTINED
    if after is quarantined and before is not quarantined:
        message = reason.message if reason is not None else "no reason was given"
        raise_alarm(connection, SERIES_QUARANTINED, series_instance_uid, message, at)
    elif before is quarantined and after is not quarantined:
        clear_alarm(connection, SERIES_QUARANTINED, series_instance_uid, at)


def _supersede(connection: Connection, series_instance_uid: str, detail: str) -> None:
    connection.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.series_instance_uid == series_instance_uid,
            DELIVERY.c.state.in_([DeliveryState.QUEUED.value, DeliveryState.SENT.value]),
        )
        .values(state=DeliveryState.SUPERSEDED.value, detail=detail)
    )
