"""Close series that have fallen quiet, then skip them or hand them to a worker."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from dicom_node.dispatch import Dispatcher
from dicom_node.errors import BrokerError, IllegalTransitionError, SpoolError, StaleRevisionError
from dicom_node.ledger import Ledger
from dicom_node.records import Reason, SeriesEvent, SeriesRecord, SeriesState
from dicom_node.spool import Spool, WorkOrder
from pipeline.errors import PipelineError, UnsupportedSeriesError
from pipeline.objects.eligibility import check_eligibility
from pipeline.objects.part10 import read_files

logger = structlog.get_logger(__name__)


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
    may_go : callable, optional
        Whether a complete series need not wait any longer, as for the word of a PACS.
    """

    ledger: Ledger
    spool: Spool
    dispatcher: Dispatcher
    lease_s: float
    may_go: Callable[[SeriesRecord, datetime], bool] = lambda _record, _now: True

    def close_due_series(self, now: datetime) -> None:
        """Complete every series whose quiet period is over."""
        for record in self.ledger.due_series(now):
            uid = record.series_instance_uid
            self.ledger.advance(uid, SeriesEvent.QUIET_PERIOD_OVER, now)
            logger.info("series complete", series=uid, instances=record.instance_count)

    def send_complete_series(self, now: datetime) -> None:
        """Skip each complete series that is not one for us, hand the others to a worker.

        Raises
        ------
        BrokerError, SpoolError
            What was not sent is complete still and can be sent again.
        """
        for record in self.ledger.complete_series():
            # More images may arrive meanwhile; then the series is completed once more.
            with suppress(StaleRevisionError, IllegalTransitionError):
                if self.may_go(record, now):
                    self._decide(record, now)

    def _decide(self, record: SeriesRecord, now: datetime) -> None:
        uid = record.series_instance_uid
        instances = self.ledger.own_instances(uid)
        reason = refusal_of(self.spool.series_files(instances))
        if reason is None:
            self._send(record, [instance.path for instance in instances], now)
            return
        self.ledger.advance(
            uid, SeriesEvent.NOT_ELIGIBLE, now, revision=record.revision, reason=reason
        )
        logger.info("series skipped", series=uid, code=reason.code, reason=reason.message)

    def _send(self, record: SeriesRecord, paths: Sequence[Path], now: datetime) -> None:
        uid, revision = record.series_instance_uid, record.revision
        # The ledger comes first: an outcome that is quicker than this function finds it ready.
        sent = self.ledger.advance(
            uid, SeriesEvent.TASK_SENT, now, revision=revision, due_at=self._due_at(now)
        )
        try:
            if sent.attempt == 1:
                # Somebody asked to measure anew, so what an earlier run found is not taken.
                self.spool.discard_outcome(uid, revision)
            order = WorkOrder(tuple(paths), sent.queued_at or now, sent.order_number)
            self.spool.put_work(uid, revision, order)
            self.dispatcher.send_analysis(uid, revision, sent.order_number)
        except (BrokerError, SpoolError):
            self.ledger.advance(uid, SeriesEvent.WORK_LOST, now, revision=revision)
            raise
        logger.info("series sent to a worker", series=uid, revision=revision, attempt=sent.attempt)

    def _due_at(self, now: datetime) -> datetime:
        """When a series that is sent now must have begun: after all that wait before it."""
        counts = self.ledger.counts()
        ahead = counts.get(SeriesState.QUEUED, 0) + counts.get(SeriesState.ANALYZING, 0)
        return now + timedelta(seconds=self.lease_s * (ahead + 1))


def refusal_of(paths: Sequence[Path]) -> Reason | None:
    """Say why a series is not one that Psoas measures.

    Parameters
    ----------
    paths : sequence of Path
        All its files.

    Returns
    -------
    Reason or None
        ``None`` also for a series that cannot be read: a worker finds out why, out of reach of
        the associations.
    """
    try:
        series = read_files(paths)
        check_eligibility([dataset for datasets in series.values() for dataset in datasets])
    except UnsupportedSeriesError as error:
        return Reason(error.code, str(error))
    except PipelineError:
        return None
    return None
