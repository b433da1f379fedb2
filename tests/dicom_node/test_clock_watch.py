from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.clock_watch import ClockWatch
from dicom_node.config import CompletionSettings
from dicom_node.ledger import Ledger
from dicom_node.records import ResultFile, SeriesEvent
from tests.dicom_node.factories import START, instance

UID = "1.2.3"
SR = ResultFile("2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1", Path("sr.dcm"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A series that is being received, and another one with a delivery."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.record_instance(instance(), CompletionSettings(quiet_s=60))
    other = instance(2, series_instance_uid="1.9")
    ledger.record_instance(other, CompletionSettings())
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.MEASURED):
        ledger.advance("1.9", event, START)
    ledger.deliveries.queue("1.9", 1, [SR], ["pacs"], START)
    yield ledger
    ledger.close()


@pytest.mark.parametrize("step_s", [-3600.0, 90000.0])
def test_what_waits_goes_with_a_clock_that_is_set(ledger: Ledger, step_s: float) -> None:
    elapsed = iter([100.0, 101.0])
    watch = ClockWatch(ledger, lambda: next(elapsed))
    watch.look(START)
    now = START + timedelta(seconds=1 + step_s)
    watch.look(now)
    assert ledger.due_series(now + timedelta(seconds=58)) == ()
    assert len(ledger.due_series(now + timedelta(seconds=60))) == 1
    (delivery,) = ledger.deliveries.due(now)
    # A day that only the clock has seen is no reason to give anything up.
    assert (now - delivery.queued_at).total_seconds() == 1
    (alarm,) = ledger.alarms.standing()
    assert alarm.code == "CLOCK_STEPPED"


def test_a_clock_that_runs_is_left_alone(ledger: Ledger) -> None:
    elapsed = iter([0.0, 3600.0, 3604.0])
    watch = ClockWatch(ledger, lambda: next(elapsed))
    for seconds in (0, 3600, 3600):
        watch.look(START + timedelta(seconds=seconds))
    assert ledger.alarms.standing() == ()
    assert len(ledger.due_series(START + timedelta(seconds=60))) == 1
