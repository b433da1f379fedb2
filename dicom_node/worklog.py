"""Tell the ledger what workers report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from dicom_node.config import DestinationSettings
from dicom_node.errors import IllegalTransitionError, StaleRevisionError, UnknownResultError
from dicom_node.ledger import Ledger
from dicom_node.ledger_findings import Finding
from dicom_node.model_store import keys_of
from dicom_node.outcomes import Outcome, OutcomeKind, reason_of
from dicom_node.profiles import NOT_ANALYSED, wanted
from dicom_node.records import Reason, ResultFile, SeriesEvent, SeriesRecord, SeriesState

logger = structlog.get_logger(__name__)

EVENTS: Final = {
    OutcomeKind.MEASURED: SeriesEvent.MEASURED,
    OutcomeKind.SKIPPED: SeriesEvent.NOT_MEASURABLE,
    OutcomeKind.FAILED: SeriesEvent.WORK_FAILED,
    OutcomeKind.QUARANTINED: SeriesEvent.IMAGES_UNUSABLE,
}

_COMPARED: Final = frozenset({OutcomeKind.MEASURED, OutcomeKind.FAILED})
Tell = Callable[[SeriesRecord, Reason], Sequence[ResultFile]]
"""Leaves the report on a series that was not measured in the spool; nothing when it cannot."""

_AT_WORK: Final = frozenset({SeriesState.QUEUED, SeriesState.ANALYZING})


@dataclass(frozen=True, slots=True)
class Work:
    """A task that was sent to a worker.

    Parameters
    ----------
    series_instance_uid : str
    revision : int
    order : int
        Its number: news of an older task says nothing about the present one.
    """

    series_instance_uid: str
    revision: int
    order: int


@dataclass(frozen=True, slots=True)
class WorkLog:
    """Records the news of workers; news of work that was overtaken changes nothing.

    Parameters
    ----------
    ledger : Ledger
    destinations : sequence of DestinationSettings
        Who gets the results, and which.
    attempts : int
        A series whose work was lost that often is quarantined.
    shadows : sequence of str
        Keys of models that measure each series silently too.
    tell : callable, optional
        Makes the report on a series that is quarantined so.
    """

    ledger: Ledger
    destinations: Sequence[DestinationSettings]
    attempts: int
    shadows: Sequence[str] = ()
    tell: Tell | None = None

    def started(self, work: Work, at: datetime, due_at: datetime) -> None:
        """Record that a worker has begun; without further news by ``due_at`` it is lost."""
        uid, revision = work.series_instance_uid, work.revision

        def advance() -> None:
            if self._is_present(work):
                event = SeriesEvent.WORK_STARTED
                self.ledger.advance(uid, event, at, revision=revision, due_at=due_at)

        self._if_current(advance, uid, revision)

    def ended(
        self, series_instance_uid: str, revision: int, outcome: Outcome, at: datetime
    ) -> None:
        """Record an outcome, with the deliveries that follow from it."""
        self._if_current(
            lambda: self._end(series_instance_uid, revision, outcome, at),
            series_instance_uid,
            revision,
        )

    def lost(self, work: Work, reason: Reason, at: datetime) -> None:
        """Record that work came to nothing: it is done again until the attempts are used up."""
        uid, revision = work.series_instance_uid, work.revision

        def advance() -> None:
            if not self._is_present(work):
                return
            record = self.ledger.series(uid)
            event, said = self._after_loss(record, reason)
            if event is SeriesEvent.ATTEMPTS_EXHAUSTED:
                self._tell(record, said, at)
            self.ledger.advance(uid, event, at, revision=revision, reason=said)

        self._if_current(advance, uid, revision)

    def _tell(self, record: SeriesRecord, reason: Reason, at: datetime) -> None:
        """Report a series that no worker survives to the destinations that want to know."""
        asking = any(NOT_ANALYSED in d.objects for d in self._destinations_of(record))
        if self.tell is not None and asking:
            self._queue(record, record.revision, self.tell(record, reason), at)

    def _is_present(self, work: Work) -> bool:
        present = self.ledger.series(work.series_instance_uid).order_number
        if work.order != present:
            logger.info("news of an older task", series=work.series_instance_uid, order=work.order)
        return work.order == present

    def _end(self, series_instance_uid: str, revision: int, outcome: Outcome, at: datetime) -> None:
        record = self.ledger.series(series_instance_uid)
        if record.state not in _AT_WORK:
            logger.info("outcome of work that is over", series=series_instance_uid)
            return
        if outcome.entry is not None:
            self.ledger.results.record(outcome.entry, at)
        destinations = self._destinations_of(record)
        # Deliveries come first: after a crash in between the outcome is recorded again.
        try:
            self._queue(record, revision, outcome.results, at)
        except UnknownResultError as error:
            outcome = Outcome(OutcomeKind.FAILED, reason_of(error))
        self.ledger.findings.record(series_instance_uid, _finding(outcome), at)
        self.ledger.advance(
            series_instance_uid,
            EVENTS[outcome.kind],
            at,
            revision=revision,
            reason=outcome.reason,
        )
        if outcome.kind is OutcomeKind.SKIPPED:
            self.ledger.take_next_best(series_instance_uid, at)
        self._ask_shadows(series_instance_uid, revision, outcome, at)
        if outcome.kind is OutcomeKind.MEASURED and not destinations:
            self.ledger.advance(series_instance_uid, SeriesEvent.ALL_DELIVERED, at)

    def _ask_shadows(
        self, series_instance_uid: str, revision: int, outcome: Outcome, at: datetime
    ) -> None:
        by_reader = outcome.entry is not None and outcome.entry.by_reader
        if outcome.kind not in _COMPARED or by_reader:
            return
        for model in self.shadows:
            if model not in keys_of(outcome.measurement):
                self.ledger.shadows.ask((series_instance_uid, revision, model), "settings", at)

    def _queue(
        self, record: SeriesRecord, revision: int, results: Sequence[ResultFile], at: datetime
    ) -> None:
        """Queue for each destination what it gets; nothing when something is not understood."""
        shares = {d.name: wanted(results, d) for d in self._destinations_of(record)}
        for name, share in shares.items():
            uid = record.series_instance_uid
            self.ledger.deliveries.queue(uid, revision, share, [name], at)

    def _destinations_of(self, record: SeriesRecord) -> list[DestinationSettings]:
        """Destinations that the rules named for a series, all of them when they named none."""
        named = None if record.route is None else record.route.destinations
        return [d for d in self.destinations if named is None or d.name in named]

    def _after_loss(self, record: SeriesRecord, reason: Reason) -> tuple[SeriesEvent, Reason]:
        begun = record.state is SeriesState.ANALYZING
        if not begun or record.attempt < self.attempts:
            return SeriesEvent.WORK_LOST, reason
        message = f"{record.attempt} attempts came to nothing, the last one: {reason.message}"
        return SeriesEvent.ATTEMPTS_EXHAUSTED, Reason(reason.code, message)

    def _if_current(
        self, advance: Callable[[], None], series_instance_uid: str, revision: int
    ) -> None:
        try:
            advance()
        except (IllegalTransitionError, StaleRevisionError) as error:
            logger.info(
                "news of work that was overtaken",
                series=series_instance_uid,
                revision=revision,
                error=str(error),
            )


def _finding(outcome: Outcome) -> Finding:
    code = None if outcome.reason is None else outcome.reason.code[:32]
    return Finding(outcome.kind.value, code, outcome.measurement.get("skeletal_muscle_area_cm2"))
