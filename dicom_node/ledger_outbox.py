"""Keep what has to go where, and what became of it; the ledger's side of the outbox."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dicom_node.database import Database
from dicom_node.ledger_deliveries import (
    claim_deliveries,
    due_condition,
    new_delivery,
    queue_delivery,
    resume_deliveries,
    settle_delivery,
)
from dicom_node.ledger_rows import to_delivery
from dicom_node.ledger_steps import locked_series
from dicom_node.records import Delivery, DeliveryState, ResultFile
from dicom_node.schema import DELIVERY


class Deliveries:
    """Results on their way to destinations; part of the ledger, opened by it.

    Every method raises ``LedgerError`` when the database cannot be read or written.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(
        self,
        series_instance_uid: str,
        revision: int,
        results: Sequence[ResultFile],
        destinations: Sequence[str],
        at: datetime,
    ) -> None:
        """Note which results have to go where.

        Repeating it changes nothing for what is under way or accepted; what was dead, refused or
        superseded is queued again.

        Parameters
        ----------
        series_instance_uid : str
        revision : int
        results : sequence of ResultFile
        destinations : sequence of str
        at : datetime

        Raises
        ------
        UnknownSeriesError
        StaleRevisionError
            When images arrived since: these results are already superseded.
        """
        deliveries = [
            new_delivery(result, destination, series_instance_uid, revision, at)
            for result in results
            for destination in destinations
        ]

        def queue(connection: Connection) -> None:
            locked_series(connection, series_instance_uid, revision)
            for delivery in deliveries:
                queue_delivery(connection, delivery)

        self._database.write(queue)

    def due(self, now: datetime, committing: Collection[str] = ()) -> tuple[Delivery, ...]:
        """Deliveries with something to be done, the longest waiting first.

        Parameters
        ----------
        now : datetime
        committing : collection of str
            Destinations that have to commit to what they accepted.
        """
        due = due_condition(now, committing)
        query = select(DELIVERY).where(due).order_by(DELIVERY.c.next_attempt_at)
        return self._rows(query)

    def of(self, series_instance_uid: str) -> tuple[Delivery, ...]:
        """Every delivery of the results of a series, of older revisions too."""
        order = (DELIVERY.c.queued_at, DELIVERY.c.destination, DELIVERY.c.sop_instance_uid)
        own = DELIVERY.c.series_instance_uid == series_instance_uid
        return self._rows(select(DELIVERY).where(own).order_by(*order))

    def claim(
        self, series_instance_uid: str, destination: str, now: datetime, lease_s: float
    ) -> tuple[Delivery, ...]:
        """Take what is due to be stored of one series at one destination; it is SENT from now on.

        It is due again ``lease_s`` later, so that no second task takes it meanwhile and nothing is
        forgotten when this one dies.
        """
        until = now + timedelta(seconds=lease_s)
        return self._database.write(
            lambda connection: claim_deliveries(
                connection, series_instance_uid, destination, now, until
            )
        )

    def record(
        self,
        delivery: Delivery,
        state: DeliveryState,
        at: datetime,
        *,
        next_attempt_at: datetime,
        status: int | None,
        detail: str,
    ) -> None:
        """Record one attempt.

        Acceptance always counts. Otherwise what is no longer waited for stays as it is: superseded
        results are not tried again, and a late failure does not undo an acceptance.

        Parameters
        ----------
        delivery : Delivery
        state : DeliveryState
        at : datetime
        next_attempt_at : datetime
        status : int or None
            Of the C-STORE response, ``None`` when there was none.
        detail : str
        """
        outcome = {
            "state": state.value,
            "next_attempt_at": next_attempt_at,
            "status": status,
            "detail": detail,
        }
        self._database.write(lambda connection: settle_delivery(connection, delivery, outcome, at))

    def record_refusal(
        self,
        delivery: Delivery,
        at: datetime,
        *,
        status: int | None,
        detail: str,
        instead: Sequence[ResultFile],
    ) -> None:
        """Record that a destination does not get an object, and queue others in its place.

        Parameters
        ----------
        delivery : Delivery
        at : datetime
        status : int or None
        detail : str
        instead : sequence of ResultFile
        """
        outcome = {
            "state": DeliveryState.REFUSED.value,
            "next_attempt_at": at,
            "status": status,
            "detail": detail,
        }

        def settle(connection: Connection) -> None:
            settle_delivery(connection, delivery, outcome, at)
            for result in instead:
                fresh = new_delivery(
                    result,
                    delivery.destination,
                    delivery.series_instance_uid,
                    delivery.revision,
                    at,
                )
                queue_delivery(connection, fresh)

        self._database.write(settle)

    def resume(
        self, destination: str | None, at: datetime, series_instance_uid: str | None = None
    ) -> tuple[Delivery, ...]:
        """Queue dead deliveries again, as if they were new.

        Parameters
        ----------
        destination : str or None
            Every one when ``None``.
        at : datetime
        series_instance_uid : str, optional
            Those of one series alone.

        Returns
        -------
        tuple of Delivery
            Those that were dead.
        """
        return self._database.write(
            lambda connection: resume_deliveries(connection, destination, at, series_instance_uid)
        )

    def count_untried(self) -> int:
        """How many deliveries wait for their first attempt."""
        untried = (DELIVERY.c.state == DeliveryState.QUEUED.value, DELIVERY.c.attempts == 0)
        query = select(func.count()).select_from(DELIVERY).where(*untried)
        return self._database.read(lambda connection: connection.execute(query).scalar_one())

    def _rows(self, query: Select[Any]) -> tuple[Delivery, ...]:
        return self._database.read(
            lambda connection: tuple(to_delivery(row) for row in connection.execute(query))
        )
