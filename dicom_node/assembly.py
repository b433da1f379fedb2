"""Close series that have fallen quiet, then skip them or hand them to a worker."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from dicom_node.background import Background
from dicom_node.corrections import correction_of, is_segmentation
from dicom_node.dispatch import Dispatcher
from dicom_node.errors import (
    BrokerError,
    IllegalTransitionError,
    SpoolError,
    StaleRevisionError,
    UnknownModelError,
)
from dicom_node.ledger import Ledger
from dicom_node.model_store import chosen_models
from dicom_node.notices import notices_of
from dicom_node.records import (
    Reason,
    ReceivedInstance,
    SeriesEvent,
    SeriesRecord,
    SeriesState,
)
from dicom_node.routes import Choice, Priority
from dicom_node.rules.book import RuleBook
from dicom_node.rules.routing import Router
from dicom_node.spool import Spool
from dicom_node.work_order import WorkOrder

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is asked to do.

    Parameters
    ----------
    paths : tuple of Path
        The images, relative to the spool.
    background : Background
    """

    paths: tuple[Path, ...]
    background: Background


@dataclass(frozen=True, slots=True)
class Assembly:
    """The way of a series from its last image to a worker.

    Parameters
    ----------
    ledger : Ledger
    spool : Spool
    dispatcher : Dispatcher
    lease_s : float
        How long one series may keep a worker busy before its work counts as lost.
    router : Router
        Decides which series are analysed.
    queue_ahead : int
        Series that are handed to the broker before a worker is free.
    may_be_sent : callable, optional
        Whether a routed series need not wait any longer, as for its earlier results.
    """

    ledger: Ledger
    spool: Spool
    dispatcher: Dispatcher
    lease_s: float
    router: Router
    queue_ahead: int = 4
    may_be_sent: Callable[[SeriesRecord, datetime], bool] = lambda _record, _now: True

    def close_due_series(self, now: datetime) -> None:
        """Complete every series that is quiet, or of which all that was announced is here."""
        due = (*self.ledger.due_series(now), *self.ledger.announcements.arrived())
        for uid, record in {record.series_instance_uid: record for record in due}.items():
            # Another listener of this ledger may have been quicker.
            with suppress(IllegalTransitionError):
                self.ledger.advance(uid, SeriesEvent.QUIET_PERIOD_OVER, now)
                logger.info("series complete", series=uid, instances=record.instance_count)

    def send_complete_series(self, now: datetime) -> None:
        """Skip each complete series that is not one for us, hand the others to a worker.

        Only ``queue_ahead`` series wait at the workers' door; which one follows is decided when
        there is room, so that a stat series overtakes what was there before it.

        Raises
        ------
        BrokerError, SpoolError, UnknownModelError
            What was not sent is complete still and can be sent again.
        """
        book = self.router.rules()
        self.router.route_complete_series(now)
        self.router.choose_best_series(now)
        waiting = [
            record
            for record in self.ledger.complete_series()
            if _is_settled(record) and self.may_be_sent(record, now)
        ]
        if not waiting:
            return
        room = self.queue_ahead - self.ledger.counts().get(SeriesState.QUEUED, 0)
        for record in sorted(waiting, key=lambda r: turn_of(r, book))[: max(room, 0)]:
            # More images may arrive meanwhile; then the series is completed once more.
            with suppress(StaleRevisionError, IllegalTransitionError):
                self._decide(record, now)

    def _decide(self, record: SeriesRecord, now: datetime) -> None:
        instances = self.ledger.own_instances(record.series_instance_uid)
        work = self._work(record, instances)
        if isinstance(work, Reason):
            self._skip(record, work, now)
        else:
            self._send(record, work, now)

    def _work(self, record: SeriesRecord, instances: Sequence[ReceivedInstance]) -> Work | Reason:
        results = self.ledger.results
        if is_segmentation(instances):
            correction = correction_of(instances, self.ledger, self.spool)
            if isinstance(correction, Reason):
                return correction
            uid, paths = correction.source_series_uid, correction.paths
            segmentation: Path | None = correction.segmentation
        else:
            uid, segmentation = record.series_instance_uid, None
            paths = tuple(instance.path for instance in instances)
        search = self.ledger.prior_searches.of(record.series_instance_uid, record.revision)
        # Of one study, what this node knows itself comes last and counts.
        priors = (*(search.found if search else ()), *results.of_other_studies(uid))
        notices = notices_of(record.series_instance_uid, self.ledger, self.spool)
        background = Background(uid, segmentation, results.of_series(uid), priors, notices)
        return Work(paths, background)

    def _skip(self, record: SeriesRecord, reason: Reason, now: datetime) -> None:
        uid = record.series_instance_uid
        self.ledger.advance(
            uid, SeriesEvent.NOT_ELIGIBLE, now, revision=record.revision, reason=reason
        )
        logger.info("series skipped", series=uid, code=reason.code, reason=reason.message)

    def _send(self, record: SeriesRecord, work: Work, now: datetime) -> None:
        uid, revision = record.series_instance_uid, record.revision
        # The ledger comes first: an outcome that is quicker than this function finds it ready.
        sent = self.ledger.advance(
            uid, SeriesEvent.TASK_SENT, now, revision=revision, due_at=self._due_at(now)
        )
        try:
            if sent.attempt == 1:
                # Somebody asked to measure anew, so what an earlier run found is not taken.
                self.spool.discard_outcome(uid, revision)
            self.spool.put_background(uid, revision, work.background.to_json())
            models = chosen_models(self.ledger.models.active(), record.model, self.spool)
            order = WorkOrder(work.paths, sent.queued_at or now, sent.order_number, *models)
            self.spool.put_work(uid, revision, order)
            self.dispatcher.send_analysis(uid, revision, sent.order_number)
        except (BrokerError, SpoolError, UnknownModelError):
            self.ledger.advance(uid, SeriesEvent.WORK_LOST, now, revision=revision)
            raise
        logger.info("series sent to a worker", series=uid, revision=revision, attempt=sent.attempt)

    def _due_at(self, now: datetime) -> datetime:
        """When a series that is sent now must have begun: after all that wait before it."""
        counts = self.ledger.counts()
        ahead = counts.get(SeriesState.QUEUED, 0) + counts.get(SeriesState.ANALYZING, 0)
        return now + timedelta(seconds=self.lease_s * (ahead + 1))


def turn_of(record: SeriesRecord, book: RuleBook) -> datetime:
    """When it is a series' turn: its time of completion less the head start of its priority."""
    priority = record.route.priority if record.route is not None else Priority.ROUTINE
    return record.updated_at - timedelta(seconds=book.queue.head_start_s.get(priority, 0.0))


def _is_settled(record: SeriesRecord) -> bool:
    return record.route is not None and record.route.choice is not Choice.BEST
