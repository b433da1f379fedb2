"""Change deliveries and commitments within a transaction that the ledger opened."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, update

from dicom_node.ledger_alarms import clear_alarm, raise_alarm
from dicom_node.ledger_rows import to_delivery
from dicom_node.ledger_steps import Step, locked_series, take_step, write_history
from dicom_node.records import (
    DELIVERY_TRANSITIONS,
    CommitmentReport,
    Delivery,
    DeliveryEvent,
    DeliveryState,
    Reason,
    ResultFile,
    SeriesEvent,
    SeriesState,
)
from dicom_node.schema import COMMITMENT, DELIVERY, SERIES

DELIVERY_DEAD: Final = "DELIVERY_DEAD"
"""Code of the alarm about a destination that did not take a result."""

_TRIED: Final = {
    DeliveryState.ACCEPTED: DeliveryEvent.ACCEPTED,
    DeliveryState.QUEUED: DeliveryEvent.POSTPONED,
    DeliveryState.REFUSED: DeliveryEvent.REFUSED,
    DeliveryState.DEAD: DeliveryEvent.GIVEN_UP,
}
_WAITING: Final = (DeliveryState.QUEUED.value, DeliveryState.SENT.value)
_RESUMED: Final = (SeriesState.FAILED, SeriesState.PARTLY_DELIVERED)
_LEAVING: Final = (SeriesState.ANALYZED.value, SeriesState.DELIVERING.value)


def new_delivery(
    result: ResultFile, destination: str, series_instance_uid: str, revision: int, at: datetime
) -> Delivery:
    """Return a delivery that nobody has tried."""
    return Delivery(
        result=result,
        destination=destination,
        series_instance_uid=series_instance_uid,
        revision=revision,
        state=DeliveryState.QUEUED,
        attempts=0,
        queued_at=at,
        next_attempt_at=at,
        status=None,
        detail="",
    )


def queue_delivery(connection: Connection, delivery: Delivery) -> None:
    """Insert a delivery; what came to nothing is queued again, the rest left alone."""
    key = _key(delivery)
    row = connection.execute(select(DELIVERY).where(key).with_for_update()).one_or_none()
    if row is None:
        connection.execute(insert(DELIVERY).values(**_values(delivery)))
    elif _after(row, DeliveryEvent.RESUMED) is not None:
        connection.execute(update(DELIVERY).where(key).values(**_values(delivery)))
        _clear_dead(connection, delivery.destination, delivery.queued_at)
    else:
        # The same bytes for a newer revision; an accepted object need not go out again.
        connection.execute(update(DELIVERY).where(key).values(revision=delivery.revision))


def due_condition(now: datetime, committing: Collection[str]) -> ColumnElement[bool]:
    """Say which deliveries have something to be done; of accepted ones, only at ``committing``."""
    unstored = DELIVERY.c.state.in_(_WAITING)
    current = select(SERIES.c.series_instance_uid).where(
        SERIES.c.series_instance_uid == DELIVERY.c.series_instance_uid,
        SERIES.c.revision == DELIVERY.c.revision,
        SERIES.c.state.in_(_LEAVING),
    )
    uncommitted = and_(
        DELIVERY.c.state == DeliveryState.ACCEPTED.value,
        DELIVERY.c.destination.in_(list(committing)),
        current.exists(),
    )
    return and_(or_(unstored, uncommitted), DELIVERY.c.next_attempt_at <= now)


def claim_deliveries(
    connection: Connection,
    series_instance_uid: str,
    destination: str,
    now: datetime,
    until: datetime,
) -> tuple[Delivery, ...]:
    """Take what is due to be stored until ``until``, in the order in which it was queued."""
    due = and_(
        _at_destination(series_instance_uid, destination),
        DELIVERY.c.state.in_(_WAITING),
        DELIVERY.c.next_attempt_at <= now,
    )
    order = (DELIVERY.c.queued_at, DELIVERY.c.sop_instance_uid)
    rows = connection.execute(select(DELIVERY).where(due).order_by(*order).with_for_update()).all()
    claimed = update(DELIVERY).where(due)
    connection.execute(claimed.values(state=DeliveryState.SENT.value, next_attempt_at=until))
    return tuple(to_delivery(row) for row in rows)


def settle_delivery(
    connection: Connection, delivery: Delivery, outcome: Mapping[str, Any], at: datetime
) -> None:
    """Write the outcome of one attempt, as far as ``records.DELIVERY_TRANSITIONS`` lets it."""
    row = connection.execute(select(DELIVERY).where(_key(delivery)).with_for_update()).one_or_none()
    state = None if row is None else _after(row, _TRIED[DeliveryState(outcome["state"])])
    if state is not None:
        changes = {**outcome, "state": state.value}
        changed = update(DELIVERY).where(_key(delivery))
        connection.execute(changed.values(attempts=DELIVERY.c.attempts + 1, **changes))
        if state is DeliveryState.DEAD:
            _raise_dead(connection, delivery, outcome["detail"], at)
    status = outcome["status"]
    code = "NO_STATUS" if status is None else f"STATUS_{status:04X}"
    _tell(connection, delivery, f"delivery_{outcome['state']}", at, (code, outcome["detail"]))


def request_commitment(
    connection: Connection,
    deliveries: Sequence[Delivery],
    transaction_uid: str,
    at: datetime,
    until: datetime,
) -> None:
    """Note that commitment is asked for; without a report by ``until`` something is to be done."""
    for delivery in deliveries:
        connection.execute(
            insert(COMMITMENT).values(
                transaction_uid=transaction_uid,
                sop_instance_uid=delivery.result.sop_instance_uid,
                destination=delivery.destination,
                requested_at=at,
            )
        )
        changed = update(DELIVERY).where(_key(delivery))
        values = {"transaction_uid": transaction_uid, "next_attempt_at": until}
        connection.execute(changed.values(**values))


def postpone_commitment(
    connection: Connection, delivery: Delivery, detail: str, at: datetime, until: datetime
) -> None:
    """Note that commitment could not be asked for; it is asked for again at ``until``."""
    changed = update(DELIVERY).where(_still(delivery, DeliveryState.ACCEPTED))
    values = {"transaction_uid": None, "next_attempt_at": until, "detail": detail}
    connection.execute(changed.values(**values))
    _tell(connection, delivery, "commitment_postponed", at, ("NOT_ASKED", detail))


def end_commitment(
    connection: Connection,
    delivery: Delivery,
    event: DeliveryEvent,
    at: datetime,
    said: tuple[str, datetime],
) -> None:
    """Write what became of a commitment; ``said`` is why, with when there is something to do."""
    row = connection.execute(select(DELIVERY).where(_key(delivery)).with_for_update()).one_or_none()
    state = None if row is None else _after(row, event)
    if state is None:
        return
    detail, due_at = said
    values = {"state": state.value, "transaction_uid": None, "detail": detail}
    changed = update(DELIVERY).where(_key(delivery))
    connection.execute(changed.values(next_attempt_at=due_at, **values))
    if state is DeliveryState.DEAD:
        _raise_dead(connection, delivery, detail, at)
    _tell(connection, delivery, f"delivery_{event.value}", at, ("COMMITMENT", detail))


def record_report(
    connection: Connection, report: CommitmentReport, at: datetime
) -> tuple[Delivery, ...]:
    """Write down a commitment report; return the deliveries that it is about.

    That a peer has committed counts whichever request it answers; that it has not counts only for
    the last one, because the result has been sent again since.
    """
    asked = connection.execute(
        select(COMMITMENT).where(COMMITMENT.c.transaction_uid == report.transaction_uid)
    ).all()
    told: list[Delivery] = []
    for request in asked:
        where = and_(
            DELIVERY.c.sop_instance_uid == request.sop_instance_uid,
            DELIVERY.c.destination == request.destination,
        )
        row = connection.execute(select(DELIVERY).where(where).with_for_update()).one_or_none()
        if row is None:
            continue
        delivery = to_delivery(row)
        told.append(delivery)
        uid = request.sop_instance_uid
        if uid in report.committed:
            said = ("committed", at)
            end_commitment(connection, delivery, DeliveryEvent.COMMITTED, at, said)
        elif uid in report.failed and row.transaction_uid == report.transaction_uid:
            said = (f"not committed, failure reason {report.failed[uid]:04X}", at)
            end_commitment(connection, delivery, DeliveryEvent.NOT_COMMITTED, at, said)
    return tuple(told)


def resume_deliveries(
    connection: Connection,
    destination: str | None,
    at: datetime,
    series_instance_uid: str | None = None,
) -> tuple[Delivery, ...]:
    """Queue what came to nothing of present revisions again, with all the patience of new ones."""
    current = and_(
        DELIVERY.c.series_instance_uid == SERIES.c.series_instance_uid,
        DELIVERY.c.revision == SERIES.c.revision,
        DELIVERY.c.state.in_([DeliveryState.DEAD.value, DeliveryState.REFUSED.value]),
        SERIES.c.state.in_([*_LEAVING, *(state.value for state in _RESUMED)]),
    )
    query = select(DELIVERY).where(current).order_by(DELIVERY.c.queued_at)
    if destination is not None:
        query = query.where(DELIVERY.c.destination == destination)
    if series_instance_uid is not None:
        query = query.where(DELIVERY.c.series_instance_uid == series_instance_uid)
    deliveries = tuple(to_delivery(row) for row in connection.execute(query))
    for delivery in deliveries:
        values = {"attempts": 0, "queued_at": at, "next_attempt_at": at}
        changed = update(DELIVERY).where(_key(delivery))
        connection.execute(changed.values(state=DeliveryState.QUEUED.value, **values))
        row = locked_series(connection, delivery.series_instance_uid)
        if row.state in _RESUMED:
            take_step(connection, row, Step(SeriesEvent.DELIVERY_RESUMED, at))
        _clear_dead(connection, delivery.destination, at)
    return deliveries


def _raise_dead(connection: Connection, delivery: Delivery, detail: str, at: datetime) -> None:
    message = f"{delivery.destination} did not take {delivery.result.sop_instance_uid}: {detail}"
    raise_alarm(connection, DELIVERY_DEAD, delivery.destination, message, at)


def _clear_dead(connection: Connection, destination: str, at: datetime) -> None:
    """End the alarm about a destination when nothing of a present revision is dead there."""
    dead = select(DELIVERY.c.sop_instance_uid).where(
        DELIVERY.c.destination == destination,
        DELIVERY.c.state == DeliveryState.DEAD.value,
        DELIVERY.c.series_instance_uid == SERIES.c.series_instance_uid,
        DELIVERY.c.revision == SERIES.c.revision,
    )
    if connection.execute(dead.limit(1)).first() is None:
        clear_alarm(connection, DELIVERY_DEAD, destination, at)


def _after(row: Row[Any], event: DeliveryEvent) -> DeliveryState | None:
    return DELIVERY_TRANSITIONS.get((DeliveryState(row.state), event))


def _tell(
    connection: Connection, delivery: Delivery, event: str, at: datetime, said: tuple[str, str]
) -> None:
    code, detail = said
    row = locked_series(connection, delivery.series_instance_uid)
    write_history(connection, row, event, at, Reason(code, f"{delivery.destination}: {detail}"))


def _at_destination(series_instance_uid: str, destination: str) -> ColumnElement[bool]:
    return and_(
        DELIVERY.c.series_instance_uid == series_instance_uid,
        DELIVERY.c.destination == destination,
    )


def _still(delivery: Delivery, state: DeliveryState) -> ColumnElement[bool]:
    return and_(_key(delivery), DELIVERY.c.state == state.value)


def _key(delivery: Delivery) -> ColumnElement[bool]:
    return and_(
        DELIVERY.c.sop_instance_uid == delivery.result.sop_instance_uid,
        DELIVERY.c.destination == delivery.destination,
    )


def _values(delivery: Delivery) -> dict[str, Any]:
    values: dict[str, Any] = asdict(delivery)
    values.update(values.pop("result"))
    values.update(path=delivery.result.path.as_posix(), state=delivery.state.value)
    return values
