"""Do what is due, again and again: the steward of everything that nobody else looks after."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from dicom_node.assembly import Assembly
from dicom_node.errors import NodeError, WorkerLostError
from dicom_node.outbox import Outbox
from dicom_node.outcomes import Outcome
from dicom_node.records import Delivery, Reason, SeriesRecord, SeriesState, Switch
from dicom_node.retention import Releaser
from dicom_node.shadows import ShadowDesk
from dicom_node.worklog import Work, WorkLog

logger = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_SETTLE_PERIOD_S: Final = 10.0
_RELEASE_PERIOD_S: Final = 60.0
_SHADOW_PERIOD_S: Final = 2.0
_NEWS_DELAY_S: Final = 10.0
"""News of an outcome usually comes by the queue; after this long it counts as lost."""
_SILENCE_S: Final = 20.0
"""A worker at work that shows no sign of life for so long is dead: ten beats."""
_RESEND_AFTER_S: Final = 60.0
"""A delivery task that did nothing for so long counts as lost."""
_AT_ONCE: Final = 1000
"""Series that one step looks at; the others follow with the next tick."""
_WORKING: Final = (SeriesState.QUEUED, SeriesState.ANALYZING)
_LEAVING: Final = (SeriesState.ANALYZED, SeriesState.DELIVERING)

_Attempt = tuple[str, str, datetime]
"""One try at one delivery: object, destination, and since when it is due."""


@dataclass(slots=True)
class _Duty:
    """A step with its pace; a failure pauses it, for longer each time."""

    name: str
    step: Callable[[datetime], None]
    period_s: float = 0.0
    paused_by: Switch | None = None
    due_at: datetime | None = None
    failures: int = 0
    complaint: str = ""

    def run(self, now: datetime) -> None:
        if self.due_at is not None and now < self.due_at:
            return
        try:
            self.step(now)
        except NodeError as error:
            pause_s = min(_FIRST_PAUSE_S * 2.0**self.failures, _LONGEST_PAUSE_S)
            self.failures += 1
            self.due_at = now + timedelta(seconds=pause_s)
            if str(error) != self.complaint:
                self.complaint = str(error)
                logger.warning("duty fails", duty=self.name, code=error.code, error=str(error))
            return
        if self.complaint:
            logger.info("duty works again", duty=self.name, failures=self.failures)
        self.failures, self.complaint = 0, ""
        self.due_at = now + timedelta(seconds=self.period_s)


@dataclass(slots=True)
class _Sightings:
    """Since when something has been seen without a break."""

    since: dict[tuple[str, object], datetime] = field(default_factory=dict)

    def update(self, keys: Iterable[tuple[str, object]], now: datetime) -> None:
        self.since = {key: self.since.get(key, now) for key in keys}

    def older_than(self, key: tuple[str, object], age_s: float, now: datetime) -> bool:
        return now - self.since[key] >= timedelta(seconds=age_s)


class Steward:
    """Drives every series on that waits for time to pass or whose news was lost.

    Parameters
    ----------
    assembly : Assembly
    work_log : WorkLog
    outbox : Outbox
    releaser : Releaser, optional
        Lets go of what is old; nothing is ever deleted without it.
    shadows : ShadowDesk, optional
        Hands out silent measurements when workers have nothing else to do.
    """

    def __init__(
        self,
        assembly: Assembly,
        work_log: WorkLog,
        outbox: Outbox,
        releaser: Releaser | None = None,
        shadows: ShadowDesk | None = None,
    ) -> None:
        self._assembly = assembly
        self._ledger = assembly.ledger
        self._spool = assembly.spool
        self._work_log = work_log
        self._outbox = outbox
        self._outcomes = _Sightings()
        self._beats = _Sightings()
        self._asked: dict[_Attempt, datetime] = {}
        self._switches: frozenset[Switch] = frozenset()
        self._duties = (
            _Duty("read switches", self._read_switches),
            _Duty("close series", assembly.close_due_series),
            _Duty("record outcomes", self._record_outcomes),
            _Duty("find lost work", self._find_lost_work),
            _Duty(
                "send series",
                assembly.send_complete_series,
                paused_by=Switch.ANALYSIS_PAUSED,
            ),
            _Duty("send deliveries", self._send_deliveries, paused_by=Switch.DELIVERY_PAUSED),
            _Duty("settle deliveries", self._settle_deliveries, period_s=_SETTLE_PERIOD_S),
            *(
                [_Duty("shadows", shadows.look_after, _SHADOW_PERIOD_S, Switch.ANALYSIS_PAUSED)]
                if shadows
                else []
            ),
            *([_Duty("let go", releaser.release, _RELEASE_PERIOD_S)] if releaser else []),
        )

    def resume(self, now: datetime) -> None:
        """Send again what was queued when the listener stopped: the broker may have forgotten it.

        Raises
        ------
        LedgerError, SpoolError
        """
        for record in self._ledger.list_series((SeriesState.QUEUED,), _AT_ONCE):
            if self._outcome(record) is None:
                self._lose(record, "the listener was started again", now)

    def tick(self, now: datetime) -> None:
        """Do what is due; what fails is logged once and tried again after a pause."""
        for duty in self._duties:
            if duty.paused_by not in self._switches:
                duty.run(now)

    def is_on(self, switch: Switch) -> bool:
        """Say whether a switch was on at the last tick."""
        return switch in self._switches

    def _read_switches(self, _now: datetime) -> None:
        self._switches = frozenset(self._ledger.switches())

    def _record_outcomes(self, now: datetime) -> None:
        """Record outcomes that lie in the spool without anybody having told the ledger."""
        working = self._ledger.list_series(_WORKING, _AT_ONCE)
        ended = {record: outcome for record in working if (outcome := self._outcome(record))}
        self._outcomes.update((_key(record) for record in ended), now)
        for record, outcome in ended.items():
            if self._outcomes.older_than(_key(record), _NEWS_DELAY_S, now):
                self._work_log.ended(
                    record.series_instance_uid, record.revision, Outcome.from_json(outcome), now
                )

    def _find_lost_work(self, now: datetime) -> None:
        for record in self._ledger.lost_work(now):
            if self._outcome(record) is None:
                self._lose(record, "no worker was heard of in time", now)
        self._find_dead_workers(now)

    def _find_dead_workers(self, now: datetime) -> None:
        """Lose work whose process stopped showing that it lives, long before its time is over."""
        working = self._ledger.list_series((SeriesState.ANALYZING,), _AT_ONCE)
        beats = {record: self._beat(record) for record in working}
        self._beats.update((beat for beat in beats.values() if beat is not None), now)
        for record, beat in beats.items():
            if beat is None or not self._beats.older_than(beat, _SILENCE_S, now):
                continue
            if self._outcome(record) is None:
                self._lose(record, f"its worker was silent for {_SILENCE_S:g} s", now)

    def _beat(self, record: SeriesRecord) -> tuple[str, object] | None:
        uid, revision = record.series_instance_uid, record.revision
        beat = self._spool.last_beat(uid, revision)
        return None if beat is None else (uid, (revision, record.order_number, beat))

    def _send_deliveries(self, now: datetime) -> None:
        due = self._ledger.deliveries.due(now, self._outbox.committing)
        batches: dict[tuple[str, str], list[_Attempt]] = {}
        for delivery in due:
            key = delivery.series_instance_uid, delivery.destination
            batches.setdefault(key, []).append(_attempt(delivery))
        attempts = {attempt for batch in batches.values() for attempt in batch}
        self._asked = {attempt: at for attempt, at in self._asked.items() if attempt in attempts}
        long_ago = now - timedelta(seconds=_RESEND_AFTER_S)
        for key, batch in sorted(batches.items()):
            # A task that runs does not see what comes due meanwhile, as a simpler report does that
            # takes the place of one refused.
            if any(self._asked.get(attempt, long_ago) <= long_ago for attempt in batch):
                self._assembly.dispatcher.send_delivery(*key)
                self._asked |= dict.fromkeys(batch, now)

    def _settle_deliveries(self, now: datetime) -> None:
        """Close series whose last delivery was recorded by a task that then died."""
        for record in self._ledger.list_series(_LEAVING, _AT_ONCE):
            self._outbox.settle(record.series_instance_uid, now)

    def _outcome(self, record: SeriesRecord) -> bytes | None:
        return self._spool.read_outcome(record.series_instance_uid, record.revision)

    def _lose(self, record: SeriesRecord, message: str, now: datetime) -> None:
        reason = Reason(WorkerLostError.code, message)
        work = Work(record.series_instance_uid, record.revision, record.order_number)
        self._work_log.lost(work, reason, now)
        logger.warning("work lost", series=record.series_instance_uid, reason=message)


def _attempt(delivery: Delivery) -> _Attempt:
    return delivery.result.sop_instance_uid, delivery.destination, delivery.next_attempt_at


def _key(record: SeriesRecord) -> tuple[str, object]:
    return record.series_instance_uid, record.revision
