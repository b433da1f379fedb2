"""Bring the results that the ledger has queued to one destination."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Final

import structlog

from dicom_node.config import DeliverySettings, DestinationSettings, NodeSettings
from dicom_node.destinations import peer_of
from dicom_node.errors import (
    IllegalTransitionError,
    ObjectRefusedError,
    PeerError,
    SettingsError,
    SpoolConflictError,
    StaleRevisionError,
)
from dicom_node.ledger import Ledger
from dicom_node.ledger_deliveries import DELIVERY_DEAD
from dicom_node.outcomes import Outcome
from dicom_node.profiles import (
    NOT_ANALYSED,
    REPORT,
    REPORT_ALONE,
    SEGMENTATION,
    named,
    object_name,
    replacement,
)
from dicom_node.records import (
    Delivery,
    DeliveryState,
    Reason,
    ResultFile,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
)
from dicom_node.sender import Answer, OutgoingFile, Problem, store
from dicom_node.spool import Spool
from dicom_node.stow import store_over_web

logger = structlog.get_logger(__name__)

Store = Callable[[Sequence[OutgoingFile]], Sequence[Answer]]
"""One association with the destination; raises ``PeerError`` when there is none."""

ABANDONED = "DELIVERY_ABANDONED"
_LEASE_MARGIN_S = 30.0
_DELIVERABLE = frozenset({SeriesState.ANALYZED, SeriesState.DELIVERING})
_TAKEN = frozenset({DeliveryState.ACCEPTED, DeliveryState.COMMITTED})
_NOT_MEASURED = frozenset({SeriesState.SKIPPED, SeriesState.FAILED, SeriesState.QUARANTINED})


class Verdict(Enum):
    """What an answer means for a delivery."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    REFUSED = "refused"
    DEAD = "dead"


_VERDICTS: Final = {
    Problem.NO_ANSWER: Verdict.RETRY,
    Problem.CONTEXT_REJECTED: Verdict.REFUSED,
    Problem.HTTP_REFUSED: Verdict.REFUSED,
    Problem.FILE_UNREADABLE: Verdict.DEAD,
    Problem.UNKNOWN_DESTINATION: Verdict.DEAD,
}


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where deliveries are kept, and how patient they are.

    Parameters
    ----------
    ledger : Ledger
    spool : Spool
    settings : DeliverySettings
    destinations : sequence of DestinationSettings
        What they get instead of an object that they refuse, and whether they have to commit.
    """

    ledger: Ledger
    spool: Spool
    settings: DeliverySettings
    destinations: Sequence[DestinationSettings] = ()

    @property
    def committing(self) -> frozenset[str]:
        """Destinations that have to commit to what they accepted."""
        return frozenset(d.name for d in self.destinations if d.commitment is not None)

    def deliver(
        self, series_instance_uid: str, destination: str, send: Store, now: datetime
    ) -> None:
        """Try everything of one series that is due for one destination.

        A report goes out after the segmentation that it refers to, over an association of its own.

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
        if not self._may_leave(series_instance_uid):
            return
        lease_s = self.settings.timeout_s * 4 + _LEASE_MARGIN_S
        claimed = self.ledger.deliveries.claim(series_instance_uid, destination, now, lease_s)
        if not claimed:
            self.settle(series_instance_uid, now)
            return
        self._start(series_instance_uid, now)
        for batch in _in_order_of_reference(claimed):
            self._try([one for one in batch if not self._is_held_back(one, now)], send, now)
        self.settle(series_instance_uid, now)

    def _try(self, deliveries: Sequence[Delivery], send: Store, now: datetime) -> None:
        if not deliveries:
            return
        files = [self._outgoing(delivery) for delivery in deliveries]
        try:
            answers = list(send(files))
        except (PeerError, SettingsError) as error:
            answers = [
                Answer(file.sop_instance_uid, None, Problem.NO_ANSWER, str(error)) for file in files
            ]
        for delivery, answer in zip(deliveries, answers, strict=True):
            self._record(delivery, answer, now)

    def _is_held_back(self, delivery: Delivery, now: datetime) -> bool:
        """Whether a report stays here because its segmentation is not at the destination.

        When that was refused, the report that refers to the images only takes its place.
        """
        segmentation = self._beside(delivery, SEGMENTATION)
        if object_name(delivery.result) != REPORT or segmentation is None:
            return False
        if segmentation.state in _TAKEN:
            return False
        if segmentation.state is DeliveryState.REFUSED:
            alone = named(REPORT_ALONE, self._results_beside(delivery))
            if alone:
                detail = "not sent, because the segmentation that it refers to was refused"
                self.ledger.deliveries.record_refusal(
                    delivery, now, status=None, detail=detail, instead=alone
                )
            return bool(alone)
        dead = segmentation.state is DeliveryState.DEAD
        self.ledger.deliveries.record(
            delivery,
            DeliveryState.DEAD if dead else DeliveryState.QUEUED,
            now,
            next_attempt_at=segmentation.next_attempt_at,
            status=None,
            detail=f"not sent before the segmentation that it refers to: {segmentation.detail}",
        )
        return True

    def _may_leave(self, series_instance_uid: str) -> bool:
        record = self.ledger.series(series_instance_uid)
        if record.state in _DELIVERABLE:
            return True
        # Of a series that was not measured nothing but the reason leaves, and not even that when
        # its images contradict each other: they may be of two patients.
        queued = {
            object_name(delivery.result)
            for delivery in self.ledger.deliveries.of(series_instance_uid)
            if (delivery.revision, delivery.state) == (record.revision, DeliveryState.QUEUED)
        }
        contradictory = record.reason is not None and record.reason.code == SpoolConflictError.code
        return record.state in _NOT_MEASURED and queued == {NOT_ANALYSED} and not contradictory

    def settle(self, series_instance_uid: str, now: datetime) -> None:
        """Close the series when no delivery of its present revision is under way any more."""
        record = self.ledger.series(series_instance_uid)
        if record.state not in _DELIVERABLE:
            return
        deliveries = [
            delivery
            for delivery in self.ledger.deliveries.of(series_instance_uid)
            if delivery.revision == record.revision
        ]
        if any(self._is_under_way(delivery) for delivery in deliveries):
            return
        # Another process may have come to the same conclusion, or images may have come in.
        with suppress(IllegalTransitionError, StaleRevisionError):
            self._close(record, deliveries, now)

    def _close(self, record: SeriesRecord, deliveries: Sequence[Delivery], now: datetime) -> None:
        states = {delivery.state for delivery in deliveries}
        if DeliveryState.DEAD in states:
            self._abandon(record, DeliveryState.DEAD, deliveries, now)
        elif DeliveryState.REFUSED not in states:
            self._end(record, SeriesEvent.ALL_DELIVERED, now)
        elif got_nothing(deliveries):
            self._abandon(record, DeliveryState.REFUSED, deliveries, now)
        else:
            reason = Reason(ObjectRefusedError.code, _what(DeliveryState.REFUSED, deliveries))
            self._end(record, SeriesEvent.SOME_REFUSED, now, reason)

    def _abandon(
        self,
        record: SeriesRecord,
        state: DeliveryState,
        deliveries: Sequence[Delivery],
        now: datetime,
    ) -> None:
        message = _what(state, deliveries)
        self._end(record, SeriesEvent.DELIVERY_ABANDONED, now, Reason(ABANDONED, message))
        if state is DeliveryState.REFUSED:
            # What time ran out for has raised its alarm already.
            destination = next(d.destination for d in deliveries if d.state is state)
            self.ledger.alarms.raise_(DELIVERY_DEAD, destination, message, now)

    def _end(
        self, record: SeriesRecord, event: SeriesEvent, now: datetime, reason: Reason | None = None
    ) -> None:
        uid, revision = record.series_instance_uid, record.revision
        self.ledger.advance(uid, event, now, revision=revision, reason=reason)

    def _is_under_way(self, delivery: Delivery) -> bool:
        if delivery.state is DeliveryState.ACCEPTED:
            return delivery.destination in self.committing
        return delivery.state in {DeliveryState.QUEUED, DeliveryState.SENT}

    def is_too_old(self, delivery: Delivery, now: datetime) -> bool:
        """Whether a delivery has been tried for as long as the settings are patient."""
        return (now - delivery.queued_at).total_seconds() >= self.settings.give_up_after_s

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
        if state is DeliveryState.REFUSED:
            self.ledger.deliveries.record_refusal(
                delivery, now, status=answer.status, detail=detail, instead=self._instead(delivery)
            )
        else:
            self.ledger.deliveries.record(
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

    def _instead(self, refused: Delivery) -> tuple[ResultFile, ...]:
        name, results = object_name(refused.result), self._results_beside(refused)
        names = [
            replacement(name, destination)
            for destination in self.destinations
            if destination.name == refused.destination
        ]
        report = self._beside(refused, REPORT) if name == SEGMENTATION else None
        if report is not None and report.state in _TAKEN:
            names.append(REPORT_ALONE)
        return tuple(result for one in names for result in named(one, results))

    def _beside(self, delivery: Delivery, name: str) -> Delivery | None:
        """Delivery of another object of the same measurement to the same destination."""
        for other in self.ledger.deliveries.of(delivery.series_instance_uid):
            if (
                (other.destination, other.revision) == (delivery.destination, delivery.revision)
                and other.result.path.parent == delivery.result.path.parent
                and object_name(other.result) == name
            ):
                return other
        return None

    def _results_beside(self, delivery: Delivery) -> list[ResultFile]:
        """Every object of the same measurement, as far as it is still the present one."""
        content = self.spool.read_outcome(delivery.series_instance_uid, delivery.revision)
        results = () if content is None else Outcome.from_json(content).results
        return [one for one in results if one.path.parent == delivery.result.path.parent]

    def _next(
        self, delivery: Delivery, answer: Answer, now: datetime
    ) -> tuple[DeliveryState, datetime, str]:
        verdict = verdict_on(answer)
        if verdict is not Verdict.RETRY:
            return DeliveryState(verdict.value), now, answer.detail
        if self.is_too_old(delivery, now):
            hours = (now - delivery.queued_at).total_seconds() / 3600
            detail = f"given up after {hours:.1f} h and {delivery.attempts + 1} attempts: "
            return DeliveryState.DEAD, now, detail + answer.detail
        due = now + timedelta(seconds=waiting_time_s(delivery.attempts, self.settings))
        return DeliveryState.QUEUED, due, answer.detail


def _in_order_of_reference(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """Part what refers to a segmentation from the rest, which goes first."""
    if all(object_name(one.result) != SEGMENTATION for one in deliveries):
        yield list(deliveries)
        return
    yield [one for one in deliveries if object_name(one.result) != REPORT]
    yield [one for one in deliveries if object_name(one.result) == REPORT]


def verdict_on(answer: Answer) -> Verdict:
    """Say whether an answer settles a delivery.

    Success, every warning and "duplicate SOP instance" (0111) mean that the object is there.
    Out of resources (A7xx) and silence pass; what a peer does not understand, does not support
    or does not allow (A9xx, Cxxx, 0122, 0124, rejected context) it refuses for ever.

    References
    ----------
    DICOM PS3.4 table B.2-1; PS3.7 annex C; PS3.18 table I.2-2.
    """
    if answer.problem is not None:
        return _VERDICTS[answer.problem]
    status = answer.status
    if status is None:
        return Verdict.DEAD
    if status in {0x0000, 0x0001, 0x0107, 0x0111, 0x0116} or status >> 12 == 0xB:
        return Verdict.ACCEPTED
    # 0110 processing failure and 0210..0213 describe the moment, not the object.
    if status >> 8 == 0xA7 or status in {0x0110, 0x0210, 0x0213}:
        return Verdict.RETRY
    return Verdict.REFUSED


def got_nothing(deliveries: Sequence[Delivery]) -> bool:
    """Whether some destination refused an object and has no other of the same series."""
    refused = {d.destination for d in deliveries if d.state is DeliveryState.REFUSED}
    served = {d.destination for d in deliveries if d.state in _TAKEN}
    return not refused <= served


def waiting_time_s(failures: int, settings: DeliverySettings) -> float:
    """Seconds until the next attempt when ``failures`` attempts went before the present one."""
    doublings = min(failures, 32)  # beyond, the longest wait has long been reached
    return min(settings.first_wait_s * 2.0**doublings, settings.longest_wait_s)


def store_at(destination: str, settings: NodeSettings) -> Store:
    """Return the way to store at a destination; one that was removed takes nothing, for ever."""
    for candidate in settings.destinations:
        if candidate.name == destination:
            return _store_by_protocol(candidate, settings)
    return partial(_refuse_all, destination)


def _store_by_protocol(destination: DestinationSettings, settings: NodeSettings) -> Store:
    timeout_s = settings.delivery.timeout_s
    if destination.web is not None:
        return partial(store_over_web, destination.web, timeout_s=timeout_s)
    return partial(
        store,
        peer_of(destination, settings),
        calling_ae_title=settings.listener.ae_title,
        timeout_s=timeout_s,
    )


def _what(state: DeliveryState, deliveries: Sequence[Delivery]) -> str:
    one = next(delivery for delivery in deliveries if delivery.state is state)
    others = sum(delivery.state is state for delivery in deliveries) - 1
    more = f", nor {others} more" if others else ""
    return f"{one.destination} did not take {object_name(one.result)}{more}: {one.detail}"


def _refuse_all(destination: str, files: Sequence[OutgoingFile]) -> tuple[Answer, ...]:
    detail = f"the settings name no destination {destination} any more"
    return tuple(
        Answer(file.sop_instance_uid, None, Problem.UNKNOWN_DESTINATION, detail) for file in files
    )
