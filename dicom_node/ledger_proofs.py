"""Keep what is known of the completeness of each revision of a series."""

from dataclasses import asdict

from sqlalchemy import Connection, insert, select, update

from dicom_node.database import Database
from dicom_node.ledger_rows import to_proof
from dicom_node.records import Proof
from dicom_node.schema import PROOF


class Proofs:
    """What a PACS said of the number of images of a series.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, series_instance_uid: str, revision: int) -> Proof | None:
        """Return what is known, ``None`` when nobody was asked."""
        query = select(PROOF).where(
            PROOF.c.series_instance_uid == series_instance_uid, PROOF.c.revision == revision
        )
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else to_proof(row)

    def put(self, proof: Proof) -> None:
        """Write down what is known; a settled proof stays as it is."""
        self._database.write(lambda connection: _put(connection, proof))


def _put(connection: Connection, proof: Proof) -> None:
    where = (
        PROOF.c.series_instance_uid == proof.series_instance_uid,
        PROOF.c.revision == proof.revision,
    )
    row = connection.execute(select(PROOF).where(*where).with_for_update()).one_or_none()
    if row is None:
        connection.execute(insert(PROOF).values(**asdict(proof)))
    elif not row.settled:
        connection.execute(update(PROOF).where(*where).values(**asdict(proof)))
