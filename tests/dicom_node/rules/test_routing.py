"""Series on their way through the rules: the best of a study, the order of the queue."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.assembly import Assembly
from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import Reason, SeriesState
from dicom_node.rules.book import RuleBook
from dicom_node.rules.routing import Router
from dicom_node.spool import Spool
from dicom_node.worklog import WorkLog
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import ManualClock, RecordingDispatcher, instance
from tests.phantoms import TorsoPhantom

BEST = {"rules": [{"name": "best", "choose": "best"}], "study": {"quiet_s": 30}}


@dataclass
class Bench:
    """A ledger with the rules of a test."""

    folder: Path
    ledger: Ledger
    book: RuleBook = field(default_factory=RuleBook)
    clock: ManualClock = field(default_factory=ManualClock)
    dispatcher: RecordingDispatcher = field(default_factory=RecordingDispatcher)
    queue_ahead: int = 4

    def receive(self, uid: str, *, source: str = "CT1", study: str = "1.2", **changes: Any) -> None:
        """A series that is complete at once."""
        folder = self.folder / "instances" / uid
        slices = changes.pop("slices", 12)
        paths = TorsoPhantom(shape=(slices, 16, 16)).write_series(folder)
        for number, path in enumerate(paths):
            dataset = dcmread(path)
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid, study
            for keyword, value in changes.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)
            made = instance(
                number,
                sop_instance_uid=f"{uid}.{number}",
                series_instance_uid=uid,
                study_instance_uid=study,
                calling_ae_title=source,
                path=path.relative_to(self.folder),
                received_at=self.clock.now,
            )
            self.ledger.record_instance(made, CompletionSettings(quiet_s=1, cap_s=1))

    def pass_time(self, seconds: float) -> None:
        router = Router(self.ledger, Spool(self.folder), lambda: self.book)
        assembly = Assembly(
            self.ledger, Spool(self.folder), self.dispatcher, 100.0, router, self.queue_ahead
        )
        now = self.clock.forward(seconds)
        assembly.close_due_series(now)
        assembly.send_complete_series(now)

    def end(self, uid: str, outcome: Outcome) -> None:
        WorkLog(self.ledger, [], 3).ended(uid, 1, outcome, self.clock.now)

    def sent(self) -> list[str]:
        return [uid for uid, _ in self.dispatcher.analyses]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        yield Bench(tmp_path / "spool", ledger)


def test_without_rules_every_eligible_series_is_analysed(bench: Bench) -> None:
    bench.receive("1.1")
    bench.receive("1.2", slices=3)
    bench.pass_time(1)
    assert bench.sent() == ["1.1"]
    reason = bench.ledger.series("1.2").reason
    assert reason is not None
    assert reason.code == "TOO_FEW_SLICES"


def test_history_tells_which_rules_fired(bench: Bench) -> None:
    skip = {"name": "skip CT2", "sources": ["CT2"], "action": "skip", "because": "not this room"}
    bench.book = RuleBook.model_validate({"rules": [skip, {"name": "rest"}]})
    bench.receive("1.1")
    bench.receive("1.2", source="CT2")
    bench.pass_time(1)
    trail = [
        (entry.event, entry.reason.message)
        for entry in bench.ledger.history("1.1")
        if entry.reason is not None
    ]
    assert trail == [
        ("rule_not_fired", "rule skip CT2 does not fit: the source is CT1, not CT2"),
        ("rule_fired", "rule rest fits"),
    ]
    assert bench.ledger.series("1.2").reason == Reason("RULE_SKIPS", "rule skip CT2: not this room")


def test_best_series_of_a_study_is_chosen_once_it_is_quiet(bench: Bench) -> None:
    bench.book = RuleBook.model_validate(BEST)
    bench.receive("1.1", SliceThickness=5)
    bench.pass_time(20)
    bench.receive("1.2", SliceThickness=1)
    bench.receive("1.9", study="9", SliceThickness=10)
    bench.pass_time(20)
    assert bench.sent() == [], "the study has not been quiet for 30 s"
    bench.pass_time(10)
    assert sorted(bench.sent()) == ["1.2", "1.9"]
    loser = bench.ledger.series("1.1")
    assert loser.state is SeriesState.SKIPPED
    assert loser.reason is not None
    assert "series 1.2 of the same study is measured instead" in loser.reason.message
    assert "slices of 1 mm" in loser.reason.message


def test_next_best_follows_when_the_chosen_one_does_not_cover_l3(bench: Bench) -> None:
    bench.book = RuleBook.model_validate(BEST)
    for number, thickness in enumerate((5, 1, 3)):
        bench.receive(f"1.{number}", SliceThickness=thickness)
    bench.pass_time(30)
    not_covered = Reason("L3_NOT_COVERED", "L3 lies below the volume")
    bench.end("1.1", Outcome(OutcomeKind.SKIPPED, not_covered))
    bench.pass_time(1)
    bench.end("1.2", Outcome(OutcomeKind.SKIPPED, not_covered))
    bench.pass_time(1)
    bench.end("1.0", Outcome(OutcomeKind.SKIPPED, not_covered))
    bench.pass_time(1)
    assert bench.sent() == ["1.1", "1.2", "1.0"]


def test_series_that_comes_after_the_choice_is_not_measured_too(bench: Bench) -> None:
    bench.book = RuleBook.model_validate(BEST)
    bench.receive("1.1", SliceThickness=5)
    bench.pass_time(30)
    bench.receive("1.2", SliceThickness=1)
    bench.pass_time(30)
    assert bench.sent() == ["1.1"]
    assert bench.ledger.series("1.2").state is SeriesState.SKIPPED


PRIORITIES = {
    "rules": [
        {"name": "stat", "sources": ["ER"], "priority": "stat"},
        {"name": "study", "sources": ["LAB"], "priority": "background"},
        {"name": "rest"},
    ],
    "queue": {"head_start_s": {"stat": 600, "routine": 0, "background": -600}},
}


def test_stat_overtakes_routine_which_overtakes_background(bench: Bench) -> None:
    bench.book = RuleBook.model_validate(PRIORITIES)
    bench.queue_ahead = 1
    bench.receive("1.0")
    bench.pass_time(1)
    for uid, source in (("1.1", "LAB"), ("1.2", "CT1"), ("1.3", "ER")):
        bench.receive(uid, source=source)
        bench.pass_time(1)
    assert bench.sent() == ["1.0"], "one waits at the workers' door"
    for uid in ("1.0", "1.3", "1.2"):
        bench.end(uid, Outcome(OutcomeKind.MEASURED))
        bench.pass_time(1)
    assert bench.sent() == ["1.0", "1.3", "1.2", "1.1"]


def test_routine_does_not_starve(bench: Bench) -> None:
    bench.book = RuleBook.model_validate(PRIORITIES)
    bench.queue_ahead = 1
    bench.receive("9.0")
    bench.pass_time(1)
    bench.receive("1.1")
    bench.pass_time(1)
    bench.pass_time(601)
    bench.receive("9.1", source="ER")
    bench.pass_time(1)
    bench.end("9.0", Outcome(OutcomeKind.MEASURED))
    bench.pass_time(1)
    assert bench.sent() == ["9.0", "1.1"]


def test_results_go_to_the_destinations_of_the_rule(bench: Bench) -> None:
    from dicom_node.config import DestinationSettings
    from dicom_node.records import ResultFile

    rule = {"name": "r", "destinations": ["second"]}
    bench.book = RuleBook.model_validate({"rules": [rule]})
    bench.receive("1.1")
    bench.pass_time(1)
    destinations = [
        DestinationSettings(name=name, ae_title="PACS", host="h", port=104)
        for name in ("first", "second")
    ]
    segmentation = "1.2.840.10008.5.1.4.1.1.66.4"
    result = ResultFile("1.9", segmentation, "1.2.840.10008.1.2.1", Path("results/seg.dcm"))
    outcome = Outcome(OutcomeKind.MEASURED, results=(result,))
    WorkLog(bench.ledger, destinations, 3).ended("1.1", 1, outcome, bench.clock.now)
    assert [delivery.destination for delivery in bench.ledger.deliveries.of("1.1")] == ["second"]


def test_retry_asks_the_rules_again(bench: Bench) -> None:
    from dicom_node.records import SeriesEvent

    skip = {"name": "no", "action": "skip", "because": "not today"}
    bench.book = RuleBook.model_validate({"rules": [skip]})
    bench.receive("1.1")
    bench.pass_time(1)
    bench.book = RuleBook()
    bench.ledger.advance("1.1", SeriesEvent.RETRY_REQUESTED, bench.clock.now)
    bench.pass_time(1)
    assert bench.sent() == ["1.1"]


def test_rules_are_tried_on_what_is_stored(
    psoas: Psoas, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datetime import UTC, datetime

    folder = tmp_path / "node"
    folder.mkdir()
    with closing(Ledger.open(f"sqlite:///{folder / 'ledger.sqlite'}")) as ledger:
        bench = Bench(folder / "spool", ledger, clock=ManualClock(datetime.now(UTC)))
        bench.receive("1.1", SliceThickness=5)
        bench.receive("1.2", SliceThickness=1)
        bench.receive("1.3", slices=3)
        before = ledger.list_series()
        rules = tmp_path / "rules.toml"
        rules.write_text('[[rules]]\nname = "best"\nchoose = "best"\n')
        assert psoas("rules", "test", rules, "--config", config) == 0
        said = capsys.readouterr().out
        assert "of 3 stored series 1 would be analysed; this change adds 0 and drops 1" in said
        assert "- 1.1 from CT1: series 1.2 of the same study would be measured instead" in said
        assert ledger.list_series() == before


def test_rules_without_stored_series_are_exit_status_3(psoas: Psoas, config: Path) -> None:
    (config.parent / "node").mkdir()
    assert psoas("rules", "test", "--days", 1) == 3


def test_wrong_rules_are_told_in_one_sentence(
    psoas: Psoas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "a"\nprio = 1\n')
    assert psoas("rules", "check", rules) == 1
    assert "line 3: rules.prio: Extra inputs are not permitted [RULES_INVALID]" in (
        capsys.readouterr().err
    )
