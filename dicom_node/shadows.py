"""See to it that shadow models measure what they are to, when no series waits for a worker."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from dicom_node.corrections import is_segmentation
from dicom_node.dispatch import Dispatcher
from dicom_node.errors import (
    IllegalTransitionError,
    ImagesReleasedError,
    NodeError,
    StaleRevisionError,
    UnknownModelError,
    UnknownSeriesError,
    WorkerLostError,
)
from dicom_node.ledger import Ledger
from dicom_node.ledger_shadows import ShadowRun, ShadowState
from dicom_node.model_store import chosen_models
from dicom_node.outcomes import Outcome
from dicom_node.records import Reason, SeriesState
from dicom_node.spool import Spool
from dicom_node.work_order import WorkOrder

logger = structlog.get_logger(__name__)

_LOOKED_AT: Final = 50
_FIRST: Final = (SeriesState.COMPLETE, SeriesState.QUEUED)
"""Series in these states go first."""


@dataclass(frozen=True, slots=True)
class ShadowDesk:
    """Hands out silent measurements and records what came of them.

    Parameters
    ----------
    ledger : Ledger
    spool : Spool
    dispatcher : Dispatcher
    lease_s : float
        How long one may keep a worker busy before it counts as lost.
    attempts : int
        After so many lost ones it is given up.
    at_once : int
        How many may keep workers busy at the same time.
    """

    ledger: Ledger
    spool: Spool
    dispatcher: Dispatcher
    lease_s: float
    attempts: int
    at_once: int

    def look_after(self, now: datetime) -> None:
        """Record what lies in the spool, hand out what is due if nothing else waits.

        Raises
        ------
        BrokerError, SpoolError, LedgerError
            What was not handed out stays due.
        """
        for run in self.ledger.shadows.due(now, _LOOKED_AT):
            if self.spool.read_outcome(*run.key[:2], shadow=run.model) is not None:
                record_silent_outcome(run.key, self.ledger, self.spool, now)
            elif self._has_room(now):
                self._hand_out(run, now)

    def _has_room(self, now: datetime) -> bool:
        counts = self.ledger.counts()
        busy = any(counts.get(state) for state in _FIRST)
        return not busy and self.ledger.shadows.under_way(now) < self.at_once

    def _hand_out(self, run: ShadowRun, now: datetime) -> None:
        uid, revision, model = run.key
        try:
            if run.state is ShadowState.SENT and run.attempt >= self.attempts:
                raise WorkerLostError(f"{run.attempt} attempts came to nothing")
            order = self._order(run, now)
        except _HOPELESS as error:
            self.ledger.shadows.end(run.key, now, {}, Reason(error.code, str(error)))
            return
        self.spool.put_work(uid, revision, order, shadow=model)
        self.ledger.shadows.sent(run, now + timedelta(seconds=self.lease_s))
        self.dispatcher.send_shadow(*run.key)
        logger.info("silent measurement handed out", series=uid, model=model)

    def _order(self, run: ShadowRun, now: datetime) -> WorkOrder:
        uid, revision, model = run.key
        record = self.ledger.series(uid)
        if record.revision != revision:
            raise StaleRevisionError(f"series {uid} has changed since it was asked for")
        if record.released_at is not None:
            raise ImagesReleasedError(f"the images of series {uid} were deleted")
        instances = self.ledger.own_instances(uid)
        if is_segmentation(instances):
            raise IllegalTransitionError(f"series {uid} holds a reader's segmentation, no images")
        paths = tuple(instance.path for instance in instances)
        keys = chosen_models(self.ledger.models.active(), model, self.spool)
        return WorkOrder(paths, record.queued_at or now, 0, *keys)


_HOPELESS: Final[tuple[type[NodeError], ...]] = (
    IllegalTransitionError,
    ImagesReleasedError,
    StaleRevisionError,
    UnknownModelError,
    UnknownSeriesError,
    WorkerLostError,
)


def record_silent_outcome(
    key: tuple[str, int, str], ledger: Ledger, spool: Spool, at: datetime
) -> None:
    """Take what a shadow model measured from the spool into the ledger.

    Raises
    ------
    SpoolError, LedgerError
    """
    uid, revision, model = key
    content = spool.read_outcome(uid, revision, shadow=model)
    if content is None:
        logger.warning("no silent outcome in the spool", series=uid, model=model)
        return
    outcome = Outcome.from_json(content)
    ledger.shadows.end(key, at, outcome.measurement, outcome.reason)
