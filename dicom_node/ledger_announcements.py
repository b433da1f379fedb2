"""Keep which images of a series peers have announced."""

import json
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from dicom_node.database import Database
from dicom_node.ledger_rows import to_announcement, to_series
from dicom_node.records import Announcement, SeriesRecord, SeriesState
from dicom_node.schema import ANNOUNCEMENT, INSTANCE, SERIES


class Announcements:
    """What is announced, whether its series is known here yet or not; opened by the ledger.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, announcements: Iterable[Announcement]) -> None:
        """Write them down; images that were announced before of the same series stay announced."""

        def put_all(connection: Connection) -> None:
            for announcement in announcements:
                _put(connection, announcement)

        self._database.write(put_all)

    def of(self, series_instance_uid: str) -> Announcement | None:
        """Return what is announced of a series, ``None`` when nothing is."""
        query = select(ANNOUNCEMENT).where(
            ANNOUNCEMENT.c.series_instance_uid == series_instance_uid
        )
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else to_announcement(row)

    def arrived(self) -> tuple[SeriesRecord, ...]:
        """Series that are being received and of which exactly the announced images are here.

        One with more images than were announced shows that the list was not the last word.
        """
        return self._database.read(_arrived)

    def forget(self, before: datetime) -> None:
        """Delete what was announced before a moment."""
        old = delete(ANNOUNCEMENT).where(ANNOUNCEMENT.c.said_at <= before)
        self._database.write(lambda connection: connection.execute(old))


def _put(connection: Connection, said: Announcement) -> None:
    here = ANNOUNCEMENT.c.series_instance_uid == said.series_instance_uid
    known = select(ANNOUNCEMENT.c.sop_instance_uids).where(here).with_for_update()
    before = connection.execute(known).scalar_one_or_none()
    uids = said.sop_instance_uids.union(json.loads(before) if before is not None else ())
    values = {
        "kind": said.kind,
        "said_by": said.said_by,
        "said_at": said.said_at,
        "image_count": len(uids),
        "sop_instance_uids": json.dumps(sorted(uids)),
    }
    if before is None:
        values["series_instance_uid"] = said.series_instance_uid
        connection.execute(insert(ANNOUNCEMENT).values(**values))
    else:
        connection.execute(update(ANNOUNCEMENT).where(here).values(**values))


def _arrived(connection: Connection) -> tuple[SeriesRecord, ...]:
    # The number tells nearly always; the list is read when it may be fulfilled.
    query = (
        select(SERIES, ANNOUNCEMENT.c.sop_instance_uids)
        .join(ANNOUNCEMENT, ANNOUNCEMENT.c.series_instance_uid == SERIES.c.series_instance_uid)
        .where(
            SERIES.c.state == SeriesState.RECEIVING.value,
            SERIES.c.instance_count == ANNOUNCEMENT.c.image_count,
        )
    )
    found = []
    for row in connection.execute(query).all():
        mine = INSTANCE.c.series_instance_uid == row.series_instance_uid
        here = connection.execute(select(INSTANCE.c.sop_instance_uid).where(mine)).scalars()
        if set(json.loads(row.sop_instance_uids)) == set(here):
            found.append(to_series(row))
    return tuple(found)
