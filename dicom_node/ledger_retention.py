"""Let go of what is done and old enough: first the images, then the records."""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, select, update

from dicom_node.database import Database
from dicom_node.ledger_rows import to_series
from dicom_node.ledger_steps import locked_series, write_history
from dicom_node.records import DeliveryState, SeriesRecord, SeriesState
from dicom_node.schema import (
    ALARM,
    COMMITMENT,
    DELIVERY,
    HISTORY,
    INSTANCE,
    PRIOR_SEARCH,
    PROOF,
    SERIES,
)

_RELEASED: Final = "images_released"
_DONE: Final = (SeriesState.DELIVERED, SeriesState.SKIPPED)
_TAKEN: Final = (
    DeliveryState.ACCEPTED.value,
    DeliveryState.COMMITTED.value,
    DeliveryState.SUPERSEDED.value,
)


class Retention:
    """What may be deleted, and the note that it was.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def releasable(
        self, state: SeriesState, before: datetime, committing: Collection[str], limit: int
    ) -> tuple[SeriesRecord, ...]:
        """Series whose images are not needed any more, the oldest first.

        Parameters
        ----------
        state : SeriesState
            DELIVERED or SKIPPED: whatever else a series is, somebody may still want it.
        before : datetime
            It has been so since then at least.
        committing : collection of str
            Destinations that have to have committed to the results.
        limit : int
        """
        query = (
            select(SERIES)
            .where(
                SERIES.c.state == state.value,
                SERIES.c.updated_at <= before,
                SERIES.c.released_at.is_(None),
                ~_owed(committing).exists(),
            )
            .order_by(SERIES.c.updated_at)
            .limit(limit)
        )
        return self._database.read(
            lambda connection: tuple(to_series(row) for row in connection.execute(query))
        )

    def release(self, record: SeriesRecord, at: datetime) -> tuple[Path, ...]:
        """Forget the images of a series; return their files, relative to the spool.

        Nothing is forgotten of a series that has changed meanwhile.
        """
        return self._database.write(lambda connection: _release(connection, record, at))

    def is_known(self, path: Path) -> bool:
        """Whether the ledger names a file: an image that came again has the same name."""
        query = select(INSTANCE.c.path).where(INSTANCE.c.path == path.as_posix()).limit(1)
        return self._database.read(lambda connection: connection.execute(query).first() is not None)

    def released_since(self, moment: datetime) -> dict[str, datetime]:
        """When the images of series were let go of last, by Series Instance UID.

        Also of series that have images again.
        """
        query = (
            select(HISTORY.c.series_instance_uid, func.max(HISTORY.c.at, type_=HISTORY.c.at.type))
            .where(HISTORY.c.event == _RELEASED, HISTORY.c.at >= moment)
            .group_by(HISTORY.c.series_instance_uid)
        )
        return self._database.read(
            lambda connection: {str(uid): at for uid, at in connection.execute(query)}
        )

    def forgettable(self, before: datetime, limit: int) -> tuple[SeriesRecord, ...]:
        """Series whose images were released before a moment, the oldest first."""
        query = (
            select(SERIES)
            .where(SERIES.c.released_at <= before)
            .order_by(SERIES.c.released_at)
            .limit(limit)
        )
        return self._database.read(
            lambda connection: tuple(to_series(row) for row in connection.execute(query))
        )

    def forget(self, record: SeriesRecord) -> bool:
        """Delete every record of a series; ``False`` when it has changed meanwhile."""
        return self._database.write(lambda connection: _forget(connection, record))

    def forget_alarms(self, before: datetime) -> None:
        """Delete alarms that were cleared before a moment."""
        gone = delete(ALARM).where(ALARM.c.cleared_at <= before)
        self._database.write(lambda connection: connection.execute(gone))


def _owed(committing: Collection[str]) -> Select[tuple[str]]:
    """Deliveries of a series that its destination has not taken, or not committed to."""
    uncommitted = and_(
        DELIVERY.c.destination.in_(list(committing)),
        DELIVERY.c.state == DeliveryState.ACCEPTED.value,
    )
    return select(DELIVERY.c.sop_instance_uid).where(
        DELIVERY.c.series_instance_uid == SERIES.c.series_instance_uid,
        DELIVERY.c.revision == SERIES.c.revision,
        DELIVERY.c.state.not_in(_TAKEN) | uncommitted,
    )


def _release(connection: Connection, record: SeriesRecord, at: datetime) -> tuple[Path, ...]:
    row = locked_series(connection, record.series_instance_uid)
    if _has_changed(row, record) or row.state not in _DONE:
        return ()
    mine = INSTANCE.c.series_instance_uid == record.series_instance_uid
    paths = connection.execute(select(INSTANCE.c.path).where(mine)).scalars().all()
    connection.execute(delete(INSTANCE).where(mine))
    connection.execute(update(SERIES).where(_is(record)).values(released_at=at))
    write_history(connection, row, _RELEASED, at, None)
    return tuple(Path(path) for path in paths)


def _forget(connection: Connection, record: SeriesRecord) -> bool:
    row = locked_series(connection, record.series_instance_uid)
    if _has_changed(row, record) or row.released_at is None:
        return False
    mine = DELIVERY.c.series_instance_uid == record.series_instance_uid
    results = select(DELIVERY.c.sop_instance_uid).where(mine)
    connection.execute(delete(COMMITMENT).where(COMMITMENT.c.sop_instance_uid.in_(results)))
    connection.execute(delete(DELIVERY).where(mine))
    for table in (HISTORY, INSTANCE, PRIOR_SEARCH, PROOF):
        of_series = table.c.series_instance_uid == record.series_instance_uid
        connection.execute(delete(table).where(of_series))
    connection.execute(delete(SERIES).where(_is(record)))
    return True


def _has_changed(row: Row[Any], record: SeriesRecord) -> bool:
    return (row.revision, row.state, row.updated_at) != (
        record.revision,
        record.state,
        record.updated_at,
    )


def _is(record: SeriesRecord) -> ColumnElement[bool]:
    return SERIES.c.series_instance_uid == record.series_instance_uid
