"""Keep what a PACS holds of earlier results of the patient of each revision of a series."""

import json
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from dicom_node.background import entry_from_json, entry_to_json
from dicom_node.database import Database
from dicom_node.records import PriorSearch
from dicom_node.schema import PRIOR_SEARCH


class PriorSearches:
    """Searches for earlier results; part of the ledger, opened by it.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, series_instance_uid: str, revision: int) -> PriorSearch | None:
        """Return the search for a revision, ``None`` when nobody was asked."""
        query = select(PRIOR_SEARCH).where(
            PRIOR_SEARCH.c.series_instance_uid == series_instance_uid,
            PRIOR_SEARCH.c.revision == revision,
        )
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _to_search(row)

    def put(self, search: PriorSearch) -> None:
        """Write down a search; a settled one stays as it is, so that work can be repeated."""
        self._database.write(lambda connection: _put(connection, search))


def _put(connection: Connection, search: PriorSearch) -> None:
    where = (
        PRIOR_SEARCH.c.series_instance_uid == search.series_instance_uid,
        PRIOR_SEARCH.c.revision == search.revision,
    )
    values = {
        "series_instance_uid": search.series_instance_uid,
        "revision": search.revision,
        "settled": search.settled,
        "sentence": search.sentence,
        "due_at": search.due_at,
        "found": json.dumps([entry_to_json(entry) for entry in search.found]),
    }
    row = connection.execute(select(PRIOR_SEARCH).where(*where).with_for_update()).one_or_none()
    if row is None:
        connection.execute(insert(PRIOR_SEARCH).values(**values))
    elif not row.settled:
        connection.execute(update(PRIOR_SEARCH).where(*where).values(**values))


def _to_search(row: Row[Any]) -> PriorSearch:
    return PriorSearch(
        series_instance_uid=row.series_instance_uid,
        revision=row.revision,
        settled=row.settled,
        sentence=row.sentence,
        due_at=row.due_at,
        found=tuple(entry_from_json(entry) for entry in json.loads(row.found)),
    )
