"""Shadow models measure silently: after everything else, and nothing is delivered."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings
from dicom_node.errors import DeviceMemoryError
from dicom_node.ledger import Ledger
from dicom_node.ledger_shadows import ShadowRun, ShadowState
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import ResultFile, SeriesEvent, SeriesState
from dicom_node.shadows import ShadowDesk, record_silent_outcome
from dicom_node.spool import Spool
from dicom_node.tasks import analyze_silently
from dicom_node.worklog import WorkLog
from pipeline.errors import LevelUncertainError
from tests.dicom_node.factories import (
    START,
    ManualClock,
    RecordingDispatcher,
    destination,
    instance,
    result_entry,
)

UID = "1.2.3"
SHADOW = "candidate-1-0a1b2c3d"
KEY = (UID, 1, SHADOW)
LEASE_S = 100.0
SEG = ResultFile("2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("seg.dcm"))
MEASUREMENT = {
    "skeletal_muscle_area_cm2": 150.0,
    "model": {"name": "old", "version": "1", "sha256": "a" * 64},
    "level_models": [],
}


@dataclass
class Bench:
    """A series that was measured, and the desk that looks after its shadow."""

    ledger: Ledger
    spool: Spool
    dispatcher: RecordingDispatcher
    clock: ManualClock
    desk: ShadowDesk
    log: WorkLog

    def measure(self, sha256: str = "a" * 64, name: str = "m") -> None:
        measurement = MEASUREMENT | {"model": {"name": name, "version": "1", "sha256": sha256}}
        entry = replace(result_entry(), measurement=measurement)
        outcome = Outcome(OutcomeKind.MEASURED, None, (SEG,), measurement, entry)
        self.log.ended(UID, 1, outcome, self.clock.now)

    def look(self, seconds: float = 0.0) -> None:
        self.desk.look_after(self.clock.forward(seconds))

    def run(self) -> ShadowRun:
        (run,) = self.ledger.shadows.of_series(UID)
        return run

    def another_series_waits(self) -> None:
        self.ledger.record_instance(instance(9, series_instance_uid="1.2.9"), CompletionSettings())
        self.ledger.advance("1.2.9", SeriesEvent.QUIET_PERIOD_OVER, START)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    spool, dispatcher = Spool(tmp_path / "spool"), RecordingDispatcher()
    # A record of an installed model is all that the listener reads.
    folder = spool.path(Path("models", SHADOW))
    folder.mkdir(parents=True)
    (folder / "installed.json").write_text(
        f'{{"key": "{SHADOW}", "kind": "segmenter", "name": "candidate", "version": "1", '
        '"sha256": "0a1b2c3d", "files": {}, "installed_at": "2026-01-01"}'
    )
    ledger.record_instance(instance(), CompletionSettings())
    ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
    ledger.advance(UID, SeriesEvent.TASK_SENT, START)
    desk = ShadowDesk(ledger, spool, dispatcher, LEASE_S, attempts=2, at_once=1)
    log = WorkLog(ledger, [destination("pacs")], 3, (SHADOW,))
    yield Bench(ledger, spool, dispatcher, ManualClock(), desk, log)
    ledger.close()


def test_every_measured_series_is_measured_silently_too(bench: Bench) -> None:
    bench.measure()
    bench.look()
    assert bench.dispatcher.shadows == [KEY]
    order = bench.spool.read_work(UID, 1, shadow=SHADOW)
    assert (order.segmenter, order.level_finder) == (SHADOW, "")
    assert order.paths == (Path("instances/1.2.3/1.dcm"),)


def test_a_shadow_that_came_into_use_does_not_measure_twice(bench: Bench) -> None:
    bench.measure("0a1b2c3d" + "0" * 56, "candidate")
    assert bench.ledger.shadows.of_series(UID) == ()


def test_what_a_shadow_measured_is_kept_and_not_delivered(bench: Bench) -> None:
    bench.measure()
    before = bench.ledger.series(UID), bench.ledger.deliveries.of(UID)
    bench.look()
    news: list[tuple[object, ...]] = []
    outcome = Outcome(OutcomeKind.MEASURED, measurement=MEASUREMENT)
    analyze_silently(KEY, bench.spool, lambda *_: outcome, lambda *n: news.append(n))
    assert news == [("psoas.record_shadow", *KEY)]
    record_silent_outcome(KEY, bench.ledger, bench.spool, START)
    assert bench.run().state is ShadowState.MEASURED
    assert bench.run().measurement == MEASUREMENT
    assert (bench.ledger.series(UID), bench.ledger.deliveries.of(UID)) == before
    assert bench.ledger.results.of_series(UID)[-1].measurement != MEASUREMENT


def test_news_that_was_lost_is_made_up_for(bench: Bench) -> None:
    bench.measure()
    bench.look()
    outcome = Outcome(OutcomeKind.MEASURED, measurement=MEASUREMENT)
    bench.spool.put_outcome(UID, 1, outcome.to_json(), shadow=SHADOW)
    bench.look(LEASE_S)
    assert bench.run().state is ShadowState.MEASURED


def test_series_that_wait_for_a_worker_go_first(bench: Bench) -> None:
    bench.measure()
    bench.another_series_waits()
    bench.look()
    assert bench.dispatcher.shadows == []
    bench.ledger.advance("1.2.9", SeriesEvent.NOT_ELIGIBLE, START)
    bench.look()
    assert bench.dispatcher.shadows == [KEY]


def test_no_more_are_handed_out_than_the_settings_say(bench: Bench) -> None:
    bench.measure()
    bench.ledger.shadows.ask((UID, 1, "other-1-99999999"), "eve", START)
    bench.look()
    bench.look()
    assert bench.dispatcher.shadows == [KEY]


def test_one_that_kills_its_workers_is_given_up(bench: Bench) -> None:
    bench.measure()
    for _ in range(3):
        bench.look(LEASE_S)
    assert bench.dispatcher.shadows == [KEY, KEY]
    run = bench.run()
    assert (run.state, run.reason and run.reason.code) == (ShadowState.NOT_MEASURED, "WORKER_LOST")
    # A person may ask for it once more.
    assert bench.ledger.shadows.ask(KEY, "eve", START, again=True)
    bench.look()
    assert bench.dispatcher.shadows == [KEY, KEY, KEY]


def test_passing_trouble_leaves_no_outcome_and_refusal_does(bench: Bench) -> None:
    def measure(error: Exception) -> list[tuple[object, ...]]:
        def fail(*_: object) -> Outcome:
            raise error

        news: list[tuple[object, ...]] = []
        analyze_silently(KEY, bench.spool, fail, lambda *n: news.append(n))
        return news

    bench.measure()
    assert measure(DeviceMemoryError("full")) == []
    assert bench.spool.read_outcome(UID, 1, shadow=SHADOW) is None
    assert len(measure(LevelUncertainError("L2 or L3"))) == 1
    record_silent_outcome(KEY, bench.ledger, bench.spool, START)
    run = bench.run()
    assert (run.state, run.reason and run.reason.code) == (
        ShadowState.NOT_MEASURED,
        LevelUncertainError.code,
    )


def test_late_images_end_what_was_asked_for_before(bench: Bench) -> None:
    bench.measure()
    bench.ledger.record_instance(instance(2), CompletionSettings())
    assert bench.ledger.series(UID).state is SeriesState.RECEIVING
    bench.look()
    run = bench.run()
    assert (run.state, run.reason and run.reason.code) == (
        ShadowState.NOT_MEASURED,
        "REVISION_STALE",
    )


def test_model_that_is_not_installed_is_named(bench: Bench) -> None:
    bench.ledger.shadows.ask((UID, 1, "none-1-00000000"), "settings", START)
    bench.measure()
    bench.look()
    run = next(r for r in bench.ledger.shadows.of_series(UID) if r.model.startswith("none"))
    assert run.reason is not None
    assert run.reason.code == "MODEL_UNKNOWN"
    assert SHADOW in run.reason.message


def test_a_clock_that_is_set_moves_what_is_awaited(bench: Bench) -> None:
    bench.measure()
    bench.look()
    due_at = bench.run().due_at
    assert due_at is not None
    bench.ledger.shift_times(timedelta(hours=1))
    assert bench.run().due_at == due_at + timedelta(hours=1)
