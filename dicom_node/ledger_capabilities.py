"""Keep what each PACS said that it accepts."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from dicom_node.acceptance import Capability
from dicom_node.database import Database
from dicom_node.schema import CAPABILITY


class CapabilityLedger:
    """The last answer of each destination; part of the ledger, opened by it.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, destination: str, answer: Sequence[Capability], at: datetime) -> None:
        """Replace what a destination said before."""
        rows = [
            {
                "destination": destination,
                "name": one.name,
                "sop_class_uid": one.sop_class_uid,
                "transfer_syntax_uid": one.transfer_syntax_uid,
                "accepted": one.accepted,
                "asked_at": at,
            }
            for one in answer
        ]

        def replace(connection: Connection) -> None:
            connection.execute(delete(CAPABILITY).where(CAPABILITY.c.destination == destination))
            connection.execute(insert(CAPABILITY), rows)

        self._database.write(replace)

    def of(self, destination: str) -> tuple[datetime | None, tuple[Capability, ...]]:
        """When a destination was asked and what it said; ``None`` and nothing when it was not."""
        query = (
            select(CAPABILITY)
            .where(CAPABILITY.c.destination == destination)
            .order_by(CAPABILITY.c.number)
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        said = tuple(
            Capability(row.name, row.sop_class_uid, row.transfer_syntax_uid, row.accepted)
            for row in rows
        )
        return (rows[0].asked_at if rows else None), said
