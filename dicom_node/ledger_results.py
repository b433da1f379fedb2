"""Keep what this node measured and which objects state it."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select

from dicom_node.database import Database
from dicom_node.records import ResultEntry, ResultObject
from dicom_node.schema import MEASUREMENT, RESULT, SERIES


class ResultLedger:
    """Measurements of this node; part of the ledger, opened by it.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, entry: ResultEntry, at: datetime) -> None:
        """Remember a measurement with its objects; of one that is known, only new objects.

        A measurement whose images the ledger does not know is not recorded.
        """
        self._database.write(lambda connection: _record(connection, entry, at))

    def is_own(self, sop_instance_uid: str) -> bool:
        """Whether this node made an object."""
        query = select(RESULT.c.name).where(RESULT.c.sop_instance_uid == sop_instance_uid)
        return self._database.read(lambda connection: connection.execute(query).first() is not None)

    def of_series(self, source_series_uid: str) -> tuple[ResultEntry, ...]:
        """Every measurement of the same images, corrected ones included, the first one first."""
        return self._entries(MEASUREMENT.c.source_series_uid == source_series_uid)

    def of_other_studies(self, source_series_uid: str) -> tuple[ResultEntry, ...]:
        """Every measurement of the patient of a series in other studies, the first one first."""
        series = select(SERIES).where(SERIES.c.series_instance_uid == source_series_uid)
        row = self._database.read(lambda connection: connection.execute(series).one_or_none())
        if row is None:
            return ()
        return self._entries(
            MEASUREMENT.c.patient_key == row.patient_key,
            MEASUREMENT.c.study_instance_uid != row.study_instance_uid,
        )

    def _entries(self, *conditions: ColumnElement[bool]) -> tuple[ResultEntry, ...]:
        query = select(MEASUREMENT).where(*conditions).order_by(MEASUREMENT.c.number)

        def read(connection: Connection) -> tuple[ResultEntry, ...]:
            rows = connection.execute(query).all()
            objects = _objects(connection, [row.series_instance_uid for row in rows])
            return tuple(_to_entry(row, objects[_origin(row)]) for row in rows)

        return self._database.read(read)


def _record(connection: Connection, entry: ResultEntry, at: datetime) -> None:
    source = select(SERIES.c.patient_key).where(
        SERIES.c.series_instance_uid == entry.source_series_uid
    )
    patient_key = connection.execute(source).scalar_one_or_none()
    if patient_key is None:
        return
    if not _is_known(connection, entry):
        _insert(connection, entry, patient_key, at)
    uid, revision, version = entry.origin
    origin = {"origin_series_uid": uid, "origin_revision": revision, "origin_version": version}
    for one in entry.objects:
        known = select(RESULT.c.name).where(RESULT.c.sop_instance_uid == one.sop_instance_uid)
        if connection.execute(known).first() is None:
            connection.execute(insert(RESULT).values(**asdict(one), **origin))


def _is_known(connection: Connection, entry: ResultEntry) -> bool:
    query = select(MEASUREMENT.c.number).where(
        MEASUREMENT.c.series_instance_uid == entry.series_instance_uid,
        MEASUREMENT.c.revision == entry.revision,
        MEASUREMENT.c.version == entry.version,
    )
    return connection.execute(query).first() is not None


def _insert(connection: Connection, entry: ResultEntry, patient_key: str, at: datetime) -> None:
    values = asdict(entry) | {
        "measurement": json.dumps(dict(entry.measurement)),
        "patient_key": patient_key,
        "recorded_at": at,
    }
    del values["objects"]
    connection.execute(insert(MEASUREMENT).values(**values))


def _origin(row: Row[Any]) -> tuple[str, int, str]:
    return row.series_instance_uid, row.revision, row.version


def _objects(
    connection: Connection, origin_series_uids: Sequence[str]
) -> dict[tuple[str, int, str], list[ResultObject]]:
    query = (
        select(RESULT)
        .where(RESULT.c.origin_series_uid.in_(origin_series_uids))
        .order_by(RESULT.c.number)
    )
    found: dict[tuple[str, int, str], list[ResultObject]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.origin_series_uid, row.origin_revision, row.origin_version].append(
            ResultObject(row.name, row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid)
        )
    return found


def _to_entry(row: Row[Any], objects: Sequence[ResultObject]) -> ResultEntry:
    return ResultEntry(
        series_instance_uid=row.series_instance_uid,
        revision=row.revision,
        version=row.version,
        source_series_uid=row.source_series_uid,
        study_instance_uid=row.study_instance_uid,
        study_date=row.study_date,
        by_reader=row.by_reader,
        measurement=json.loads(row.measurement),
        objects=tuple(objects),
    )
