"""Move what waits for a time, within a transaction that the ledger opened."""

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Table, select, update

from dicom_node.ledger_shadows import ShadowState
from dicom_node.records import DeliveryState, SeriesState
from dicom_node.schema import DELIVERY, SERIES, SHADOW

_WAITING: Final = {
    SERIES: (SeriesState.RECEIVING, SeriesState.QUEUED, SeriesState.ANALYZING),
    DELIVERY: (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.ACCEPTED),
    SHADOW: (ShadowState.SENT,),
}
_TIMES: Final = {
    SERIES: ("due_at", "last_received_at", "revision_started_at"),
    DELIVERY: ("next_attempt_at", "queued_at"),
    SHADOW: ("due_at",),
}


def shift_times(connection: Connection, by: timedelta) -> None:
    """Add ``by`` to every time that decides when something is done next."""
    for table, states in _WAITING.items():
        _shift(connection, table, [state.value for state in states], by)


def _shift(connection: Connection, table: Table, states: list[str], by: timedelta) -> None:
    keys = list(table.primary_key.columns)
    rows = connection.execute(select(table).where(table.c.state.in_(states))).mappings().all()
    for row in rows:
        moved = {name: row[name] + by for name in _TIMES[table] if row[name] is not None}
        where = [key == row[key.name] for key in keys]
        connection.execute(update(table).where(*where).values(**moved))
