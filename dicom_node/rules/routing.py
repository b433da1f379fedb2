"""Route complete series by the rules, and choose the best one of a study."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from dicom_node.corrections import is_segmentation
from dicom_node.errors import IllegalTransitionError, StaleRevisionError
from dicom_node.ledger import Ledger
from dicom_node.ledger_routes import NOT_BEST_OF_STUDY
from dicom_node.records import Reason, SeriesEvent, SeriesRecord, SeriesState
from dicom_node.routes import Choice, Route
from dicom_node.rules.book import RuleBook
from dicom_node.rules.decide import decide
from dicom_node.rules.traits import SeriesTraits, traits_of
from dicom_node.spool import Spool
from pipeline.errors import PipelineError, UnsupportedSeriesError
from pipeline.objects.eligibility import check_eligibility
from pipeline.objects.part10 import read_files

logger = structlog.get_logger(__name__)

BEST_OF_STUDY: Final = "BEST_OF_STUDY"
_CORRECTION: Final = Route("correction")
"""Of a segmentation that comes from a reader: rules are about images."""
_UNREAD: Final = Route("unread")
"""Of a series that cannot be read: a worker finds out why, out of reach of the associations."""

_MEASURED_OR_WILL_BE: Final = frozenset(SeriesState) - {
    SeriesState.RECEIVING,
    SeriesState.SKIPPED,
    SeriesState.QUARANTINED,
    SeriesState.FAILED,
    SeriesState.DROPPED,
}


@dataclass(frozen=True, slots=True)
class Router:
    """Decides about complete series; what it decided stands in the ledger.

    Parameters
    ----------
    ledger : Ledger
    spool : Spool
    rules : callable
        Returns the rules in force.
    may_go : callable, optional
        Whether a complete series need not wait any longer, as for the word of a PACS.
    """

    ledger: Ledger
    spool: Spool
    rules: Callable[[], RuleBook] = RuleBook
    may_go: Callable[[SeriesRecord, datetime], bool] = lambda _record, _now: True

    def route_complete_series(self, now: datetime) -> None:
        """Skip or route each complete series that the rules have not seen."""
        book = self.rules()
        for record in self.ledger.complete_series():
            if record.route is None and self.may_go(record, now):
                # More images may arrive meanwhile; then the series is completed once more.
                with suppress(StaleRevisionError, IllegalTransitionError):
                    self._route(record, book, now)

    def choose_best_series(self, now: datetime) -> None:
        """Choose among the candidates of each study that has been quiet for long enough."""
        book = self.rules()
        groups = {
            (record.study_instance_uid, record.route.rule)
            for record in self.ledger.complete_series()
            if record.route is not None and record.route.choice is Choice.BEST
        }
        for study_instance_uid, rule in sorted(groups):
            series = self.ledger.study_series(study_instance_uid)
            if _is_quiet(series, book.study.quiet_s, now):
                with suppress(StaleRevisionError, IllegalTransitionError):
                    self._choose([s for s in series if s.route and s.route.rule == rule], now)

    def _route(self, record: SeriesRecord, book: RuleBook, now: datetime) -> None:
        uid, revision = record.series_instance_uid, record.revision
        instances = self.ledger.own_instances(uid)
        if is_segmentation(instances):
            self.ledger.set_route(uid, revision, _CORRECTION, (), now)
            return
        found = examine(self.spool.series_files(instances), record.source_ae_title)
        if isinstance(found, Reason):
            self._skip(record, found, now)
            return
        if found is None:
            self.ledger.set_route(uid, revision, _UNREAD, (), now)
            return
        decision = decide(found, book)
        self.ledger.set_route(uid, revision, decision.route, decision.trail, now)
        if decision.refusal is not None:
            self._skip(record, decision.refusal, now)

    def _choose(self, series: Sequence[SeriesRecord], now: datetime) -> None:
        candidates = ranked(s for s in series if _is_candidate(s))
        chosen = next((s for s in series if _is_chosen(s)), None)
        if chosen is None:
            chosen = candidates.pop(0)
            reason = Reason(
                BEST_OF_STUDY,
                f"the best of {len(candidates) + 1} series of its study: {_summary(chosen)}",
            )
            route = replace(_route_of(chosen), choice=Choice.CHOSEN)
            self.ledger.set_route(
                chosen.series_instance_uid, chosen.revision, route, (reason,), now
            )
        for loser in candidates:
            message = (
                f"series {chosen.series_instance_uid} of the same study is measured instead: "
                f"{_summary(chosen)}; this one: {_summary(loser)}"
            )
            self._skip(loser, Reason(NOT_BEST_OF_STUDY, message), now)

    def _skip(self, record: SeriesRecord, reason: Reason, now: datetime) -> None:
        uid = record.series_instance_uid
        self.ledger.advance(
            uid, SeriesEvent.NOT_ELIGIBLE, now, revision=record.revision, reason=reason
        )
        logger.info("series skipped", series=uid, code=reason.code, reason=reason.message)


def examine(paths: Sequence[Path], source: str) -> SeriesTraits | Reason | None:
    """Say what rules may ask of a series, or why it is not one that Psoas measures.

    Parameters
    ----------
    paths : sequence of Path
        All its files.
    source : str
        Calling AE title.

    Returns
    -------
    SeriesTraits, Reason or None
        ``None`` for a series that cannot be read.
    """
    try:
        datasets = [dataset for found in read_files(paths).values() for dataset in found]
        check_eligibility(datasets)
        return traits_of(datasets, source)
    except UnsupportedSeriesError as error:
        return Reason(error.code, str(error))
    except PipelineError:
        return None


def ranked(candidates: Iterable[SeriesRecord]) -> list[SeriesRecord]:
    """Order candidates, the best one first; equal ones by their UID."""
    return sorted(candidates, key=lambda s: (_route_of(s).rank, s.series_instance_uid))


def _route_of(record: SeriesRecord) -> Route:
    return record.route or _UNREAD


def _summary(record: SeriesRecord) -> str:
    return _route_of(record).summary


def _is_candidate(record: SeriesRecord) -> bool:
    return record.state is SeriesState.COMPLETE and _route_of(record).choice is Choice.BEST


def _is_chosen(record: SeriesRecord) -> bool:
    return record.state in _MEASURED_OR_WILL_BE and _route_of(record).choice is Choice.CHOSEN


def _is_quiet(series: Sequence[SeriesRecord], quiet_s: float, now: datetime) -> bool:
    if any(_is_unsettled(record) for record in series):
        return False
    last_received_at = max(record.last_received_at for record in series)
    return now - last_received_at >= timedelta(seconds=quiet_s)


def _is_unsettled(record: SeriesRecord) -> bool:
    unseen = record.state is SeriesState.COMPLETE and record.route is None
    return unseen or record.state is SeriesState.RECEIVING
