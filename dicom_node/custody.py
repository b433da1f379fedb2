"""See to it that destinations take responsibility for what they accepted, or get it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.uid import generate_uid

from dicom_node.commitment import INVALID_ARGUMENT, SUCCESS, Ask, Request
from dicom_node.errors import CommitmentRefusedError, PeerError
from dicom_node.ledger import Ledger
from dicom_node.outbox import Outbox, waiting_time_s
from dicom_node.records import CommitmentReport, Delivery, DeliveryEvent, DeliveryState


@dataclass(frozen=True, slots=True)
class Custody:
    """The way of a result from accepted to committed.

    Parameters
    ----------
    outbox : Outbox
    """

    outbox: Outbox

    @property
    def ledger(self) -> Ledger:
        """Where everything is kept."""
        return self.outbox.ledger

    def seek(self, series_instance_uid: str, destination: str, ask: Ask, now: datetime) -> None:
        """Ask a destination to commit to what it accepted; store again what it never committed to.

        A call with nothing due does nothing.

        Parameters
        ----------
        series_instance_uid : str
        destination : str
        ask : Ask
        now : datetime
        """
        due = [
            delivery
            for delivery in self.ledger.deliveries.due(now, self.outbox.committing)
            if delivery.series_instance_uid == series_instance_uid
            and delivery.destination == destination
            and delivery.state is DeliveryState.ACCEPTED
        ]
        for delivery in due:
            if delivery.transaction_uid is not None:
                self._resend(delivery, now)
        unasked = [delivery for delivery in due if delivery.transaction_uid is None]
        if unasked:
            self._ask(unasked, ask, now)
        self.outbox.settle(series_instance_uid, now)

    def record_report(self, report: CommitmentReport, now: datetime) -> int:
        """Record what a destination says of its commitment; return the status to answer with."""
        deliveries = self.ledger.commitments.record_report(report, now)
        for uid in sorted({delivery.series_instance_uid for delivery in deliveries}):
            self.outbox.settle(uid, now)
        return SUCCESS if deliveries else INVALID_ARGUMENT

    def _ask(self, deliveries: Sequence[Delivery], ask: Ask, now: datetime) -> None:
        transaction_uid = generate_uid(prefix=None)
        until = now + timedelta(seconds=self._timeout_s(deliveries[0]))
        self.ledger.commitments.request(deliveries, transaction_uid, now, until)
        request = Request(transaction_uid, tuple(delivery.result for delivery in deliveries))
        try:
            ask(
                request,
                lambda report: self.record_report(report, now),
                lambda: self._is_answered(deliveries[0]),
            )
        except CommitmentRefusedError as error:
            for delivery in deliveries:
                self._end(delivery, DeliveryEvent.COMMITMENT_REFUSED, str(error), now)
        except PeerError as error:
            for delivery in deliveries:
                self._postpone(delivery, str(error), now)

    def _is_answered(self, asked: Delivery) -> bool:
        uid = asked.result.sop_instance_uid
        return any(
            delivery.result.sop_instance_uid == uid
            and delivery.destination == asked.destination
            and delivery.state is not DeliveryState.ACCEPTED
            for delivery in self.ledger.deliveries.of(asked.series_instance_uid)
        )

    def _resend(self, delivery: Delivery, now: datetime) -> None:
        """Store a result again whose report never came, unless it is too old."""
        detail = f"no commitment report in {self._timeout_s(delivery):g} s"
        too_old = self.outbox.is_too_old(delivery, now)
        event = DeliveryEvent.COMMITMENT_REFUSED if too_old else DeliveryEvent.NOT_COMMITTED
        self._end(delivery, event, detail, now)

    def _postpone(self, delivery: Delivery, detail: str, now: datetime) -> None:
        if self.outbox.is_too_old(delivery, now):
            self._end(delivery, DeliveryEvent.COMMITMENT_REFUSED, detail, now)
            return
        wait_s = waiting_time_s(max(delivery.attempts - 1, 0), self.outbox.settings)
        due = now + timedelta(seconds=wait_s)
        self.ledger.commitments.postpone(delivery, detail, now, due)

    def _end(self, delivery: Delivery, event: DeliveryEvent, detail: str, now: datetime) -> None:
        self.ledger.commitments.end(delivery, event, now, detail=detail, due_at=now)

    def _timeout_s(self, delivery: Delivery) -> float:
        for destination in self.outbox.destinations:
            if destination.name == delivery.destination and destination.commitment is not None:
                return destination.commitment.timeout_s
        raise LookupError(delivery.destination)
