from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from structlog.testing import capture_logs

from dicom_node.audit import AuditTrail
from dicom_node.celery_app import (
    ANALYZE_SERIES,
    DELIVER,
    RECORD_LOST,
    RECORD_OUTCOME,
    RECORD_STARTED,
    create_app,
)
from dicom_node.config import CompletionSettings, NodeSettings
from dicom_node.errors import DeviceMemoryError
from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import ResultFile, SeriesEvent, SeriesState
from dicom_node.spool import Spool
from dicom_node.tasks import Analyst, caught, register_records
from dicom_node.work_order import WorkOrder
from pipeline.errors import LevelNotCoveredError
from tests.dicom_node.factories import START, instance, node_settings
from tests.peers import OUT_OF_RESOURCES, ScriptedPacs
from tests.phantoms import TorsoPhantom

UID = "1.2.3"
ORDER = 4
Soon = Callable[[Callable[[], bool]], None]
MEASURED = Outcome(OutcomeKind.MEASURED)


@dataclass
class Bench:
    """An analyst whose measuring raises or returns what the test wants."""

    spool: Spool
    result: Outcome | Exception = MEASURED
    measured: int = 0
    news: list[tuple[Any, ...]] = field(default_factory=list)

    def measure(self, _uid: str, _revision: int) -> Outcome:
        self.measured += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def send(self, name: str, *arguments: str | int) -> None:
        self.news.append((name, *arguments))

    def analyze(self, *, redelivered: bool = False) -> None:
        analyst = Analyst(self.spool, self.measure, self.send, 600.0)
        analyst.analyze(UID, 1, ORDER, redelivered=redelivered)

    def outcome(self) -> Outcome:
        content = self.spool.read_outcome(UID, 1)
        assert content is not None
        return Outcome.from_json(content)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Spool(tmp_path))


def test_outcome_lies_in_the_spool_before_it_is_reported(bench: Bench) -> None:
    bench.analyze()
    assert bench.outcome() == MEASURED
    assert bench.news == [(RECORD_STARTED, UID, 1, ORDER), (RECORD_OUTCOME, UID, 1)]


def test_repeated_task_only_reports(bench: Bench) -> None:
    bench.analyze()
    bench.analyze(redelivered=True)
    assert bench.measured == 1
    assert bench.news[2:] == [(RECORD_OUTCOME, UID, 1)]


def test_task_whose_worker_died_is_left_to_the_ledger(bench: Bench) -> None:
    bench.analyze(redelivered=True)
    assert bench.measured == 0
    assert [entry[:5] for entry in bench.news] == [(RECORD_LOST, UID, 1, ORDER, "WORKER_LOST")]


@pytest.mark.parametrize(("newest", "measured"), [(ORDER, 1), (ORDER + 1, 0)])
def test_task_that_a_newer_one_replaced_does_nothing(
    bench: Bench, newest: int, measured: int
) -> None:
    bench.spool.put_work(UID, 1, WorkOrder((), START, newest))
    bench.analyze()
    assert bench.measured == measured
    assert len(bench.news) == 2 * measured


def test_process_at_work_shows_that_it_lives(bench: Bench, soon: Soon) -> None:
    beats: list[int | None] = []

    def measure(uid: str, revision: int) -> Outcome:
        soon(lambda: bench.spool.last_beat(uid, revision) is not None)
        beats.append(bench.spool.last_beat(uid, revision))
        return MEASURED

    bench.measure = measure  # type: ignore[method-assign]
    bench.analyze()
    assert len(beats) == 1


def test_refusal_becomes_an_outcome(bench: Bench) -> None:
    bench.result = LevelNotCoveredError("the scan ends above L3")
    bench.analyze()
    assert bench.outcome().kind is OutcomeKind.SKIPPED
    assert bench.news[-1] == (RECORD_OUTCOME, UID, 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [(DeviceMemoryError("full"), "DEVICE_MEMORY"), (SoftTimeLimitExceeded(), "WORKER_LOST")],
)
def test_passing_trouble_leaves_no_outcome(bench: Bench, error: Exception, code: str) -> None:
    bench.result = error
    bench.analyze()
    assert bench.spool.read_outcome(UID, 1) is None
    assert bench.news[-1][:5] == (RECORD_LOST, UID, 1, ORDER, code)


def test_fault_of_ours_is_logged_with_its_place_and_without_its_text(bench: Bench) -> None:
    bench.result = ValueError("Doe^Jane")
    with capture_logs() as logs:
        bench.analyze()
    assert bench.outcome().kind is OutcomeKind.FAILED
    assert "test_tasks.py" in logs[0]["place"]
    assert "Doe" not in str(logs)


def test_caught_returns_what_was_raised() -> None:
    error = ValueError()

    def body() -> None:
        raise error

    assert caught(body) is error
    assert caught(lambda: None) is None


def node_app(settings: NodeSettings, ledger: Ledger, spool: Spool) -> Celery:
    app = create_app(settings)
    register_records(app, settings, lambda: ledger, spool)
    return app


@pytest.mark.network
def test_tasks_of_the_node_take_a_series_from_its_outcome_to_the_pacs(tmp_path: Path) -> None:
    with ScriptedPacs() as pacs:
        destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
        settings = node_settings(tmp_path, destinations=[destination])
        spool, ledger = Spool.of(settings.storage), Ledger.open(settings.ledger_url)
        ledger.record_instance(instance(), CompletionSettings())
        ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
        ledger.advance(UID, SeriesEvent.TASK_SENT, START)
        result = put_result(spool)
        app = node_app(settings, ledger, spool)
        app.tasks[RECORD_STARTED](UID, 1, 1)
        assert ledger.series(UID).state is SeriesState.ANALYZING
        spool.put_outcome(UID, 1, Outcome(OutcomeKind.MEASURED, results=(result,)).to_json())
        app.tasks[RECORD_OUTCOME](UID, 1)
        app.tasks[DELIVER](UID, "pacs")
        assert ledger.series(UID).state is SeriesState.DELIVERED
        assert set(pacs.received) == {result.sop_instance_uid}
        ledger.close()


def put_result(spool: Spool) -> ResultFile:
    phantom = TorsoPhantom(shape=(1, 16, 16))
    dataset = phantom.datasets()[0]
    folder = spool.path(Path("results", UID, "revision_1"))
    (written,) = phantom.write_series(folder)
    written.rename(folder / "sr.dcm")
    return ResultFile(
        dataset.SOPInstanceUID,
        dataset.SOPClassUID,
        dataset.file_meta.TransferSyntaxUID,
        Path("results", UID, "revision_1", "sr.dcm"),
    )


@pytest.mark.network
def test_what_a_destination_took_stands_in_the_audit_trail(tmp_path: Path) -> None:
    with ScriptedPacs() as pacs:
        address = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
        settings = node_settings(tmp_path, destinations=[address])
        spool, ledger = Spool.of(settings.storage), Ledger.open(settings.ledger_url)
        result, now = put_result(spool), datetime.now(UTC)
        ledger.record_instance(instance(), CompletionSettings())
        for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
            ledger.advance(UID, event, START)
        ledger.deliveries.queue(UID, 1, [result], ["pacs"], now)
        pacs.script.append(OUT_OF_RESOURCES)
        deliver = node_app(settings, ledger, spool).tasks[DELIVER]
        trail = AuditTrail.of(settings)
        deliver(UID, "pacs")
        assert trail.waiting() == 0
        ledger.shift_times(timedelta(minutes=-1))
        deliver(UID, "pacs")
        (message,) = [path.read_text() for path in trail.folder.glob("*.msg")]
        ledger.close()
    assert 'EventActionCode="R"' in message
    assert f'SOPClass UID="{result.sop_class_uid}" NumberOfInstances="1"' in message
    assert 'AlternativeUserID="AETITLES=PACS"' in message
    assert instance().patient_key in message
    assert instance().study_instance_uid in message


def test_task_of_the_node_that_fails_is_logged_only(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    spool, ledger = Spool.of(settings.storage), Ledger.open(settings.ledger_url)
    app = node_app(settings, ledger, spool)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        app.tasks[DELIVER]("9.9.9", "pacs")
        app.tasks[RECORD_OUTCOME]("9.9.9", 1)
    assert [line["series"] for line in logs] == ["9.9.9", "9.9.9"]
    assert logs[0]["code"] == "SERIES_UNKNOWN"
    assert logs[1]["event"] == "no outcome in the spool"
    ledger.close()


def test_times_in_the_ledger_are_of_today(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    spool, ledger = Spool.of(settings.storage), Ledger.open(settings.ledger_url)
    ledger.record_instance(instance(), CompletionSettings())
    ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
    ledger.advance(UID, SeriesEvent.TASK_SENT, START)
    node_app(settings, ledger, spool).tasks[RECORD_LOST](UID, 1, 1, "WORKER_LOST", "killed")
    age = datetime.now(UTC) - ledger.series(UID).updated_at
    assert 0 <= age.total_seconds() < 60
    ledger.close()


def test_analysis_is_not_among_the_tasks_of_the_node(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    ledger = Ledger.open(settings.ledger_url)
    app = node_app(settings, ledger, Spool.of(settings.storage))
    assert ANALYZE_SERIES not in app.tasks
    ledger.close()
