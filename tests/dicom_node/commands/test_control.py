"""Pause, resume, drain."""

import getpass
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.audit import AuditTrail
from dicom_node.config import CompletionSettings, load_settings
from dicom_node.ledger import Ledger
from dicom_node.records import SeriesEvent, SeriesState, Switch
from dicom_node.serve import serve
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import (
    START,
    RecordingDispatcher,
    instance,
    node_settings,
)
from tests.peers import Scanner
from tests.phantoms import TorsoPhantom

UID = "1.2.3"


@pytest.fixture
def ledger(config: Path) -> Iterator[Ledger]:
    settings = load_settings(config)
    settings.storage.folder.mkdir()
    opened = Ledger.open(settings.ledger_url)
    yield opened
    opened.close()


def test_pause_is_remembered_until_it_is_taken_back(
    psoas: Psoas, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("pause", "analysis") == 0
    assert list(ledger.switches()) == [Switch.ANALYSIS_PAUSED]
    assert psoas("status") == 0
    assert "analysis paused since" in capsys.readouterr().out
    assert psoas("resume") == 0
    assert ledger.switches() == {}


def test_pause_of_one_part_leaves_the_other(psoas: Psoas, ledger: Ledger) -> None:
    psoas("pause")
    assert set(ledger.switches()) == {Switch.ANALYSIS_PAUSED, Switch.DELIVERY_PAUSED}
    psoas("resume", "delivery")
    assert set(ledger.switches()) == {Switch.ANALYSIS_PAUSED}


def test_drain_that_takes_too_long_is_exit_status_4(
    psoas: Psoas, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.record_instance(instance(), CompletionSettings())
    assert psoas("drain", "--wait-s", "0.01", "--json") == 4
    assert json.loads(capsys.readouterr().out) == {"drained": False, "left": 1}
    assert list(ledger.switches()) == [Switch.DRAINING]


@pytest.mark.usefixtures("ledger")
def test_drain_of_an_idle_node_is_over_at_once(psoas: Psoas) -> None:
    assert psoas("drain", "--keep-workers") == 0


def test_who_steers_the_node_stands_in_the_audit_trail(
    psoas: Psoas, ledger: Ledger, config: Path, tmp_path: Path
) -> None:
    psoas("pause", "analysis")
    psoas("resume")
    psoas("drain", "--wait-s", "0")
    psoas("resume-deliveries")
    psoas("backup", tmp_path / "copy")
    ledger.close()
    psoas("ledger", "downgrade", "--to", "0.1", "--yes")
    trail = AuditTrail.of(load_settings(config))
    said = b"".join(path.read_bytes() for path in sorted(trail.folder.glob("*.msg")))
    expected = [
        "pause analysis",
        "resume all",
        "drain",
        "resume deliveries to every destination",
        "backup of the whole node",
        "ledger downgrade to 0.1",
    ]
    places = [said.find(f"Description>{text}".encode()) for text in expected]
    assert places == [place for place in sorted(places) if place >= 0], said
    assert said.count(f'UserID="{getpass.getuser()}"'.encode()) == len(expected)


@pytest.mark.network
def test_draining_listener_turns_scanners_away_finishes_and_stops(
    tmp_path: Path, soon: Callable[[Callable[[], bool]], None]
) -> None:
    settings = node_settings(tmp_path / "node", completion={"quiet_after_release_s": 0.1})
    dispatcher, stop = RecordingDispatcher(), threading.Event()
    ports: list[int] = []
    served = threading.Thread(target=serve, args=(settings, dispatcher, stop, ports.append))
    served.start()
    try:
        soon(lambda: bool(ports))
        scanner = Scanner(ports[0])
        paths = TorsoPhantom(shape=(12, 16, 16)).write_series(tmp_path / "ct")
        scanner.send(paths)
        uid = str(dcmread(paths[0]).SeriesInstanceUID)
        opened = Ledger.open(settings.ledger_url)
        opened.turn_on(Switch.DRAINING, "test", START)
        with pytest.raises(AssertionError, match="not accepted"):
            soon(lambda: scanner.send(paths[:1]) == [])
        assert scanner.echo() == 0, "it still says that it lives"
        soon(lambda: opened.series(uid).state is SeriesState.QUEUED)
        assert served.is_alive(), "a series is at work"
        opened.advance(uid, SeriesEvent.NOT_MEASURABLE, START)
        served.join(10)
        assert not served.is_alive()
        opened.close()
    finally:
        stop.set()
        served.join()


@pytest.mark.network
def test_listener_that_is_started_after_a_drain_works_again(
    tmp_path: Path, soon: Callable[[Callable[[], bool]], None]
) -> None:
    settings = node_settings(tmp_path / "node")
    settings.storage.folder.mkdir()
    opened = Ledger.open(settings.ledger_url)
    opened.turn_on(Switch.DRAINING, "test", START)
    stop, ports = threading.Event(), list[int]()
    served = threading.Thread(
        target=serve, args=(settings, RecordingDispatcher(), stop, ports.append)
    )
    served.start()
    try:
        soon(lambda: bool(ports))
        assert opened.switches() == {}
    finally:
        stop.set()
        served.join()
        opened.close()


@pytest.mark.network
def test_paused_analysis_keeps_series_complete(
    tmp_path: Path, soon: Callable[[Callable[[], bool]], None]
) -> None:
    settings = node_settings(tmp_path / "node", completion={"quiet_after_release_s": 0.1})
    settings.storage.folder.mkdir()
    opened = Ledger.open(settings.ledger_url)
    opened.turn_on(Switch.ANALYSIS_PAUSED, "test", START)
    dispatcher, stop, ports = RecordingDispatcher(), threading.Event(), list[int]()
    served = threading.Thread(target=serve, args=(settings, dispatcher, stop, ports.append))
    served.start()
    try:
        soon(lambda: bool(ports))
        paths = TorsoPhantom(shape=(12, 16, 16)).write_series(tmp_path / "ct")
        Scanner(ports[0]).send(paths)
        uid = str(dcmread(paths[0]).SeriesInstanceUID)
        soon(lambda: opened.series(uid).state is SeriesState.COMPLETE)
        assert dispatcher.analyses == []
        opened.turn_off(Switch.ANALYSIS_PAUSED)
        soon(lambda: dispatcher.analyses == [(uid, 1)])
    finally:
        stop.set()
        served.join()
        opened.close()
