"""Read pages of the ledger: every query goes along an index and takes a bounded number of rows.

Each function takes a connection, so that ``Ledger.read`` runs it on one consistent state.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)

from dicom_node.ledger_rows import to_series
from dicom_node.records import SeriesRecord, SeriesState
from dicom_node.schema import DELIVERY, INSTANCE, SERIES

_NEWEST_FIRST: Final = (SERIES.c.first_received_at.desc(), SERIES.c.series_instance_uid.desc())
_FOUND_AT_MOST: Final = 100
# Sorts behind every digit and dot, so it ends the range of UIDs with one beginning.
_AFTER_UIDS: Final = "~"


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Which series a page lists; an empty filter lists all.

    Parameters
    ----------
    state : SeriesState or None
    source_ae_title : str or None
    reason_code : str or None
    """

    state: SeriesState | None = None
    source_ae_title: str | None = None
    reason_code: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list of series, which goes by the time of the first image.

    Parameters
    ----------
    first_received_at : datetime
    series_instance_uid : str
    """

    first_received_at: datetime
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class SeriesPage:
    """Some series of the list.

    Parameters
    ----------
    series : tuple of SeriesRecord
        The newest first.
    older, newer : Place or None
        Where the pages before and after begin; ``None`` at an end.
    """

    series: tuple[SeriesRecord, ...]
    older: Place | None
    newer: Place | None


def series_page(
    connection: Connection,
    wanted: SeriesFilter,
    size: int,
    *,
    older_than: Place | None = None,
    newer_than: Place | None = None,
) -> SeriesPage:
    """Return one page of the series that a filter lets through.

    Pages begin at a place instead of a number of rows to pass over: the thousandth page takes
    as long as the first one, and series that arrive meanwhile move nothing.

    Parameters
    ----------
    connection : Connection
    wanted : SeriesFilter
    size : int
    older_than, newer_than : Place, optional
        At most one of them; neither gives the newest page.
    """
    query = page_query(wanted, size, older_than=older_than, newer_than=newer_than)
    rows = list(connection.execute(query))
    more = len(rows) > size
    series = [to_series(row) for row in rows[:size]]
    if newer_than is not None:
        series.reverse()
    if not series:
        return SeriesPage((), None, None)
    has_older = newer_than is not None or more
    has_newer = older_than is not None or (newer_than is not None and more)
    return SeriesPage(
        tuple(series),
        older=_place(series[-1]) if has_older else None,
        newer=_place(series[0]) if has_newer else None,
    )


def page_query(
    wanted: SeriesFilter,
    size: int,
    *,
    older_than: Place | None = None,
    newer_than: Place | None = None,
) -> Select[Any]:
    """Query of ``series_page``: one row more than the page tells whether another one follows."""
    query = select(SERIES).where(*_conditions(wanted)).limit(size + 1)
    here = tuple_(SERIES.c.first_received_at, SERIES.c.series_instance_uid)
    if newer_than is not None:
        query = query.where(here > _values(newer_than))
        return query.order_by(SERIES.c.first_received_at, SERIES.c.series_instance_uid)
    if older_than is not None:
        query = query.where(here < _values(older_than))
    return query.order_by(*_NEWEST_FIRST)


def series_with_uid(connection: Connection, uid: str) -> tuple[SeriesRecord, ...]:
    """Series that a UID belongs to: their own, their study's, that of an image or of a result.

    Parameters
    ----------
    connection : Connection
    uid : str
        Whole, or the beginning of a Series Instance UID.
    """
    for query in uid_queries(uid):
        found = tuple(to_series(row) for row in connection.execute(query))
        if found:
            return found
    return ()


def uid_queries(uid: str) -> tuple[Select[Any], ...]:
    """Return the queries of ``series_with_uid`` in their order."""
    begins = SERIES.c.series_instance_uid.between(uid, uid + _AFTER_UIDS)
    return (
        _found(SERIES.c.series_instance_uid == uid),
        _found(SERIES.c.study_instance_uid == uid),
        _found(SERIES.c.series_instance_uid.in_(_series_of(INSTANCE, uid))),
        _found(SERIES.c.series_instance_uid.in_(_series_of(DELIVERY, uid))),
        select(SERIES).where(begins).order_by(SERIES.c.series_instance_uid).limit(_FOUND_AT_MOST),
    )


def series_with_keys(connection: Connection, keys: Collection[str]) -> tuple[SeriesRecord, ...]:
    """Series whose accession number or patient ID has one of these digests, the newest first."""
    return tuple(to_series(row) for row in connection.execute(keys_query(keys)))


def keys_query(keys: Collection[str]) -> Select[Any]:
    """Query of ``series_with_keys``; the digests of both attributes never coincide."""
    return _found(or_(SERIES.c.accession_key.in_(keys), SERIES.c.patient_id_key.in_(keys)))


@dataclass(frozen=True, slots=True)
class Arrival:
    """Images of one series that came over one way.

    Parameters
    ----------
    calling_ae_title, sender_address, transfer_syntax_uid : str
    image_count : int
    size_bytes : int
    first_at, last_at : datetime
    """

    calling_ae_title: str
    sender_address: str
    transfer_syntax_uid: str
    image_count: int
    size_bytes: int
    first_at: datetime
    last_at: datetime


def arrivals(connection: Connection, series_instance_uid: str) -> tuple[Arrival, ...]:
    """Say from whom the images of a series came, the first ones first."""
    way = (INSTANCE.c.calling_ae_title, INSTANCE.c.sender_address, INSTANCE.c.transfer_syntax_uid)
    first_at = func.min(INSTANCE.c.received_at).label("first_at")
    query = (
        select(
            *way,
            func.count().label("image_count"),
            func.sum(INSTANCE.c.size_bytes).label("size_bytes"),
            first_at,
            func.max(INSTANCE.c.received_at).label("last_at"),
        )
        .where(INSTANCE.c.series_instance_uid == series_instance_uid)
        .group_by(*way)
        .order_by(first_at)
    )
    return tuple(Arrival(*row) for row in connection.execute(query))


def waiting_before(connection: Connection, record: SeriesRecord) -> int | None:
    """Count the series that workers get before this one; ``None`` when it waits for none."""
    if record.state is not SeriesState.QUEUED or record.queued_at is None:
        return None
    before = (SERIES.c.state == SeriesState.QUEUED.value, SERIES.c.queued_at < record.queued_at)
    return connection.execute(select(func.count()).where(*before)).scalar_one()


def _conditions(wanted: SeriesFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        conditions.append(SERIES.c.state == wanted.state.value)
    if wanted.source_ae_title is not None:
        conditions.append(SERIES.c.source_ae_title == wanted.source_ae_title)
    if wanted.reason_code is not None:
        conditions.append(SERIES.c.reason_code == wanted.reason_code)
    return conditions


def _found(condition: ColumnElement[bool]) -> Select[Any]:
    return select(SERIES).where(condition).order_by(*_NEWEST_FIRST).limit(_FOUND_AT_MOST)


def _series_of(table: Table, sop_instance_uid: str) -> Select[Any]:
    return select(table.c.series_instance_uid).where(table.c.sop_instance_uid == sop_instance_uid)


def _place(record: SeriesRecord) -> Place:
    return Place(record.first_received_at, record.series_instance_uid)


def _values(place: Place) -> Any:  # noqa: ANN401 - SQLAlchemy types no tuple of bound values
    return tuple_(
        bindparam(None, place.first_received_at, SERIES.c.first_received_at.type),
        bindparam(None, place.series_instance_uid, SERIES.c.series_instance_uid.type),
    )


def subject_of(connection: Connection, series_instance_uid: str) -> tuple[str, str]:
    """Study Instance UID and digest of the patient of a series.

    Parameters
    ----------
    connection : Connection
    series_instance_uid : str
        Of a series that the ledger has.
    """
    query = select(SERIES.c.study_instance_uid, SERIES.c.patient_key).where(
        SERIES.c.series_instance_uid == series_instance_uid
    )
    study_instance_uid, patient = connection.execute(query).one()
    return study_instance_uid, patient
