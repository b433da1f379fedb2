"""Bring the results that the ledger has queued to one destination."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial

import structlog

from dicom_node.config import DeliverySettings, NodeSettings
from dicom_node.errors import PeerError
from dicom_node.ledger import Ledger
from dicom_node.records import (
    Delivery,
    DeliveryState,
    Reason,
    SeriesEvent,
    SeriesState,
)
from dicom_node.sender import Answer, OutgoingFile, Peer, Problem, store
from dicom_node.spool import Spool

logger = structlog.get_logger(__name__)

Store = Callable[[Sequence[OutgoingFile]], Sequence[Answer]]
"""One association with the destination; raises ``PeerError`` when there is none."""

ABANDONED = "DELIVERY_ABANDONED"
_LEASE_MARGIN_S = 30.0
_DELIVERABLE = frozenset({SeriesState.ANALYZED, SeriesState.DELIVERING})


class Verdict(Enum):
    """What a C-STORE status means for a delivery."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where deliveries are kept, and how patient they are.

    Parameters
    ----------
    ledger : Ledger
    spool : Spool
    settings : DeliverySettings
    """

    ledger: Ledger
    spool: Spool
    settings: DeliverySettings

    def deliver(
        self, series_instance_uid: str, destination: str, send: Store, now: datetime
    ) -> None:
        """Try everything of one series that is due for one destination, over one association.

        Each object's outcome goes into the ledger; what failed for now is due again later. A
        call with nothing due does nothing, so that a repeated task is harmless.

        Parameters
        ----------
        series_instance_uid : str
        destination : str
            Name in the settings.
        send : Store
        now : datetime
        """
        if self.ledger.series(series_instance_uid).state not in _DELIVERABLE:
            return
        lease_s = self.settings.timeout_s * 4 + _LEASE_MARGIN_S
        claimed = self.ledger.claim_deliveries(series_instance_uid, destination, now, lease_s)
        if not claimed:
            self.settle(series_instance_uid, now)
            return
        self._start(series_instance_uid, now)
        files = [self._outgoing(delivery) for delivery in claimed]
        try:
            answers = list(send(files))
        except PeerError as error:
            answers = [
                Answer(file.sop_instance_uid, None, Problem.NO_ANSWER, str(error)) for file in files
            ]
        for delivery, answer in zip(claimed, answers, strict=True):
            self._record(delivery, answer, now)
        self.settle(series_instance_uid, now)

    def settle(self, series_instance_uid: str, now: datetime) -> None:
        """Close the series when no delivery of its present revision is under way any more."""
        record = self.ledger.series(series_instance_uid)
        if record.state not in _DELIVERABLE:
            return
        deliveries = [
            delivery
            for delivery in self.ledger.deliveries(series_instance_uid)
            if delivery.revision == record.revision
        ]
        states = {delivery.state for delivery in deliveries}
        if DeliveryState.QUEUED in states:
            return
        if DeliveryState.DEAD not in states:
            self.ledger.advance(series_instance_uid, SeriesEvent.ALL_DELIVERED, now)
            return
        dead = next(d for d in deliveries if d.state is DeliveryState.DEAD)
        message = f"{dead.destination} did not take {dead.result.sop_instance_uid}: {dead.detail}"
        self.ledger.advance(
            series_instance_uid,
            SeriesEvent.DELIVERY_ABANDONED,
            now,
            reason=Reason(ABANDONED, message),
        )

    def _start(self, series_instance_uid: str, now: datetime) -> None:
        if self.ledger.series(series_instance_uid).state is SeriesState.ANALYZED:
            self.ledger.advance(series_instance_uid, SeriesEvent.DELIVERY_STARTED, now)

    def _outgoing(self, delivery: Delivery) -> OutgoingFile:
        result = delivery.result
        return OutgoingFile(
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
            path=self.spool.path(result.path),
        )

    def _record(self, delivery: Delivery, answer: Answer, now: datetime) -> None:
        state, due, detail = self._next(delivery, answer, now)
        self.ledger.record_delivery(
            delivery, state, now, next_attempt_at=due, status=answer.status, detail=detail
        )
        logger.info(
            "delivery tried",
            series=delivery.series_instance_uid,
            destination=delivery.destination,
            sop_instance=delivery.result.sop_instance_uid,
            state=state.value,
            detail=detail,
        )

    def _next(
        self, delivery: Delivery, answer: Answer, now: datetime
    ) -> tuple[DeliveryState, datetime, str]:
        verdict = verdict_on(answer)
        if verdict is Verdict.ACCEPTED:
            return DeliveryState.ACCEPTED, now, answer.detail
        if verdict is Verdict.DEAD:
            return DeliveryState.DEAD, now, answer.detail
        age_s = (now - delivery.queued_at).total_seconds()
        if age_s >= self.settings.give_up_after_s:
            hours = age_s / 3600
            detail = f"given up after {hours:.1f} h and {delivery.attempts + 1} attempts: "
            return DeliveryState.DEAD, now, detail + answer.detail
        due = now + timedelta(seconds=waiting_time_s(delivery.attempts, self.settings))
        return DeliveryState.QUEUED, due, answer.detail


def verdict_on(answer: Answer) -> Verdict:
    """Say whether an answer settles a delivery.

    Success, every warning and "duplicate SOP instance" (0111) mean that the object is there.
    Out of resources (A7xx) and silence pass; what a peer does not understand, does not support
    or does not allow (A9xx, Cxxx, 0122, 0124, rejected context) stays wrong for ever.

    References
    ----------
    DICOM PS3.4 table B.2-1; PS3.7 annex C.
    """
    if answer.problem is Problem.NO_ANSWER:
        return Verdict.RETRY
    if answer.status is None:
        return Verdict.DEAD
    if answer.status in {0x0000, 0x0001, 0x0107, 0x0111, 0x0116} or answer.status >> 12 == 0xB:
        return Verdict.ACCEPTED
    # 0110 processing failure and 0210..0213 describe the moment, not the object.
    if answer.status >> 8 == 0xA7 or answer.status in {0x0110, 0x0210, 0x0213}:
        return Verdict.RETRY
    return Verdict.DEAD


def waiting_time_s(failures: int, settings: DeliverySettings) -> float:
    """Seconds until the next attempt when ``failures`` attempts went before the present one."""
    doublings = min(failures, 32)  # beyond, the longest wait has long been reached
    return min(settings.first_wait_s * 2.0**doublings, settings.longest_wait_s)


def store_at(destination: str, settings: NodeSettings) -> Store:
    """Return the way to store at a destination; one that was removed takes nothing, for ever."""
    for candidate in settings.destinations:
        if candidate.name == destination:
            peer = Peer(candidate.ae_title, candidate.host, candidate.port)
            return partial(
                store,
                peer,
                calling_ae_title=settings.listener.ae_title,
                timeout_s=settings.delivery.timeout_s,
            )
    return partial(_refuse_all, destination)


def _refuse_all(destination: str, files: Sequence[OutgoingFile]) -> tuple[Answer, ...]:
    detail = f"the settings name no destination {destination} any more"
    return tuple(
        Answer(file.sop_instance_uid, None, Problem.UNKNOWN_DESTINATION, detail) for file in files
    )
