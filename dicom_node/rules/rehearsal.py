"""Say of stored series what rules would do with them, and what other rules would change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.ledger import Ledger
from dicom_node.records import Reason, SeriesRecord
from dicom_node.routes import Choice, Route
from dicom_node.rules.book import RuleBook
from dicom_node.rules.decide import Decision, decide
from dicom_node.rules.routing import examine
from dicom_node.rules.traits import SeriesTraits
from dicom_node.spool import Spool


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What rules would do with one series.

    Parameters
    ----------
    series_instance_uid, study_instance_uid : str
    source : str
        Calling AE title.
    analysed_now, analysed_then : bool
        By the rules in force and by the ones on trial.
    because : str
        What the rules on trial say.
    changed : bool
        Whether it would be analysed by the one and not by the other, or elsewhere in the queue,
        or for other destinations.
    """

    series_instance_uid: str
    study_instance_uid: str
    source: str
    analysed_now: bool
    analysed_then: bool
    because: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What rules would do with the stored series of some days.

    Parameters
    ----------
    series : tuple of Rehearsed
    unread : int
        Series whose images are not stored any more, or cannot be read.
    """

    series: tuple[Rehearsed, ...]
    unread: int

    @property
    def added(self) -> int:
        """Series that only the rules on trial would analyse."""
        return sum(one.analysed_then and not one.analysed_now for one in self.series)

    @property
    def removed(self) -> int:
        """Series that only the rules in force analyse."""
        return sum(one.analysed_now and not one.analysed_then for one in self.series)


@dataclass(frozen=True, slots=True)
class _Verdict:
    route: Route | None
    sentence: str


def rehearse(
    records: Iterable[SeriesRecord],
    ledger: Ledger,
    spool: Spool,
    in_force: RuleBook,
    on_trial: RuleBook,
) -> Rehearsal:
    """Try rules on stored series, without changing anything.

    Parameters
    ----------
    records : iterable of SeriesRecord
    ledger : Ledger
    spool : Spool
    in_force, on_trial : RuleBook
    """
    found: dict[str, SeriesTraits | Reason] = {}
    by_uid: dict[str, SeriesRecord] = {}
    for record in records:
        by_uid[record.series_instance_uid] = record
        files = spool.series_files(ledger.own_instances(record.series_instance_uid))
        traits = examine(files, record.source_ae_title) if _are_stored(files) else None
        if traits is not None:
            found[record.series_instance_uid] = traits
    now, then = _verdicts(found, in_force), _verdicts(found, on_trial)
    series = tuple(_compared(by_uid[uid], now[uid], then[uid]) for uid in found)
    return Rehearsal(series, unread=len(by_uid) - len(found))


def _are_stored(files: Sequence[Path]) -> bool:
    return bool(files) and all(file.is_file() for file in files)


def _verdicts(found: dict[str, SeriesTraits | Reason], book: RuleBook) -> dict[str, _Verdict]:
    verdicts = {uid: _verdict(traits, book) for uid, traits in found.items()}
    groups: dict[tuple[str, str], list[str]] = {}
    for uid, verdict in verdicts.items():
        traits = found[uid]
        route = verdict.route
        if isinstance(traits, SeriesTraits) and route is not None and route.choice is Choice.BEST:
            groups.setdefault((traits.study_instance_uid, route.rule), []).append(uid)
    for candidates in groups.values():
        best, *losers = sorted(candidates, key=lambda uid: (_rank(verdicts[uid]), uid))
        for uid in losers:
            sentence = f"series {best} of the same study would be measured instead"
            verdicts[uid] = _Verdict(None, sentence)
    return verdicts


def _verdict(traits: SeriesTraits | Reason, book: RuleBook) -> _Verdict:
    if isinstance(traits, Reason):
        return _Verdict(None, traits.message)
    decision: Decision = decide(traits, book)
    if decision.refusal is not None:
        return _Verdict(None, decision.refusal.message)
    return _Verdict(decision.route, decision.trail[-1].message)


def _rank(verdict: _Verdict) -> tuple[float, ...]:
    return verdict.route.rank if verdict.route is not None else ()


def _compared(record: SeriesRecord, now: _Verdict, then: _Verdict) -> Rehearsed:
    return Rehearsed(
        series_instance_uid=record.series_instance_uid,
        study_instance_uid=record.study_instance_uid,
        source=record.source_ae_title,
        analysed_now=now.route is not None,
        analysed_then=then.route is not None,
        because=then.sentence,
        changed=_effect(now.route) != _effect(then.route),
    )


def _effect(route: Route | None) -> tuple[object, ...]:
    return () if route is None else (route.priority, route.destinations)
