"""Keep what the ledger knows beside the life of a series: commitments and alarms."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from dicom_node.database import Database
from dicom_node.ledger_alarms import clear_alarm, raise_alarm
from dicom_node.ledger_deliveries import (
    end_commitment,
    postpone_commitment,
    record_report,
    request_commitment,
)
from dicom_node.ledger_rows import to_alarm
from dicom_node.records import Alarm, CommitmentReport, Delivery, DeliveryEvent
from dicom_node.schema import ALARM


class Commitments:
    """What destinations were asked to take responsibility for (PS3.4 Annex J).

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(
        self, deliveries: Sequence[Delivery], transaction_uid: str, at: datetime, until: datetime
    ) -> None:
        """Note a request before it is sent: its report may come before its answer.

        Parameters
        ----------
        deliveries : sequence of Delivery
        transaction_uid : str
        at : datetime
        until : datetime
            When a report that has not come counts as lost.
        """
        self._database.write(
            lambda connection: request_commitment(
                connection, deliveries, transaction_uid, at, until
            )
        )

    def postpone(self, delivery: Delivery, detail: str, at: datetime, until: datetime) -> None:
        """Note that a request did not get through and is made again at ``until``."""
        self._database.write(
            lambda connection: postpone_commitment(connection, delivery, detail, at, until)
        )

    def end(
        self,
        delivery: Delivery,
        event: DeliveryEvent,
        at: datetime,
        *,
        detail: str,
        due_at: datetime,
    ) -> None:
        """Note that commitment was refused or never came.

        Parameters
        ----------
        delivery : Delivery
        event : DeliveryEvent
            ``NOT_COMMITTED`` queues the result again, ``COMMITMENT_REFUSED`` gives it up.
        at : datetime
        detail : str
        due_at : datetime
            When a result that is queued again is to be stored.
        """
        self._database.write(
            lambda connection: end_commitment(connection, delivery, event, at, (detail, due_at))
        )

    def record_report(self, report: CommitmentReport, at: datetime) -> tuple[Delivery, ...]:
        """Record an N-EVENT-REPORT.

        Returns
        -------
        tuple of Delivery
            What it is about, as it was before; empty when nobody here asked.
        """
        return self._database.write(lambda connection: record_report(connection, report, at))


class Alarms:
    """What a person should look at.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def raise_(self, code: str, subject: str, message: str, at: datetime) -> None:
        """Raise an alarm; one that stands already is counted."""
        self._database.write(lambda connection: raise_alarm(connection, code, subject, message, at))

    def clear(self, code: str, subject: str, at: datetime) -> None:
        """Note that an alarm is over."""
        self._database.write(lambda connection: clear_alarm(connection, code, subject, at))

    def standing(self) -> tuple[Alarm, ...]:
        """Alarms that nobody has cleared, the newest first."""
        query = select(ALARM).where(ALARM.c.cleared_at.is_(None)).order_by(ALARM.c.number.desc())
        return self._database.read(
            lambda connection: tuple(to_alarm(row) for row in connection.execute(query))
        )
