"""Read what is going on in the ledger, for metrics and alarms: along indexes, without side effects.

Each function takes a connection, so that ``Ledger.read`` runs it on one consistent state.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select

from dicom_node.ledger_rows import to_series
from dicom_node.records import DeliveryState, SeriesRecord, SeriesState
from dicom_node.schema import DELIVERY, HISTORY, INSTANCE, SERIES

_RECENT_SERIES: Final = 50
_SETTLED: Final = frozenset(
    {
        DeliveryState.ACCEPTED,
        DeliveryState.COMMITTED,
        DeliveryState.REFUSED,
        DeliveryState.SUPERSEDED,
    }
)


@dataclass(frozen=True, slots=True)
class Happening:
    """A step of a series, with the time of its last image.

    Parameters
    ----------
    number : int
        Grows with every step in the ledger.
    event : str
    reason_code, reason_message : str or None
    at, last_received_at : datetime
    """

    number: int
    event: str
    reason_code: str | None
    reason_message: str | None
    at: datetime
    last_received_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """Results on their way to one destination in one state.

    Parameters
    ----------
    destination : str
    state : str
    count : int
    oldest_at : datetime
        When the oldest of them was queued.
    """

    destination: str
    state: str
    count: int
    oldest_at: datetime


def last_happening(connection: Connection) -> int:
    """Return the number of the latest step, 0 in an empty ledger."""
    return connection.execute(select(func.max(HISTORY.c.number))).scalar_one() or 0


def happenings_after(connection: Connection, number: int, limit: int) -> tuple[Happening, ...]:
    """Return the steps after one with this number, in their order."""
    columns = HISTORY.c.number, HISTORY.c.event, HISTORY.c.reason_code, HISTORY.c.reason_message
    of_series = HISTORY.c.series_instance_uid == SERIES.c.series_instance_uid
    query = (
        select(*columns, HISTORY.c.at, SERIES.c.last_received_at)
        .join(SERIES, of_series)
        .where(HISTORY.c.number > number)
        .order_by(HISTORY.c.number)
        .limit(limit)
    )
    return tuple(Happening(*row) for row in connection.execute(query))


def oldest_by_state(connection: Connection) -> dict[SeriesState, datetime]:
    """Since when the series that arrived first is in its state, for each state on the way."""
    oldest = {}
    for state in SeriesState:
        query = (
            select(SERIES.c.updated_at)
            .where(SERIES.c.state == state.value)
            .order_by(SERIES.c.first_received_at)
            .limit(1)
        )
        at = connection.execute(query).scalar_one_or_none()
        if at is not None:
            oldest[state] = at
    return oldest


def deliveries_under_way(connection: Connection) -> tuple[Backlog, ...]:
    """Count results that their destination does not have, by destination and state."""
    under_way = [state.value for state in DeliveryState if state not in _SETTLED]
    key = DELIVERY.c.destination, DELIVERY.c.state
    query = (
        select(*key, func.count(), func.min(DELIVERY.c.queued_at))
        .where(DELIVERY.c.state.in_(under_way))
        .group_by(*key)
        .order_by(*key)
    )
    return tuple(Backlog(*row) for row in connection.execute(query))


def arrivals_since(connection: Connection, since: datetime) -> tuple[SeriesRecord, ...]:
    """Series that got an image since a time."""
    query = select(SERIES).where(SERIES.c.last_received_at >= since)
    return tuple(to_series(row) for row in connection.execute(query))


def images_after(connection: Connection, series_instance_uid: str, at: datetime) -> int:
    """Count the images of a series that arrived after a time."""
    of_series = INSTANCE.c.series_instance_uid == series_instance_uid
    query = select(func.count()).where(of_series, INSTANCE.c.received_at > at)
    return connection.execute(query).scalar_one()


def known_sources(connection: Connection) -> tuple[str, ...]:
    """AE titles that have sent images, found by leaping from one to the next in the index."""
    found: list[str] = []
    query = select(func.min(SERIES.c.source_ae_title))
    source = connection.execute(query).scalar_one()
    while source is not None:
        found.append(source)
        source = connection.execute(query.where(SERIES.c.source_ae_title > source)).scalar_one()
    return tuple(found)


def last_images(connection: Connection, sources: Iterable[str]) -> dict[str, datetime]:
    """When each source sent its last image, as far as its latest series tell."""
    last = {}
    for source in sources:
        latest = (
            select(SERIES.c.last_received_at)
            .where(SERIES.c.source_ae_title == source)
            .order_by(SERIES.c.first_received_at.desc())
            .limit(_RECENT_SERIES)
        )
        times = list(connection.execute(latest).scalars())
        if times:
            last[source] = max(times)
    return last
