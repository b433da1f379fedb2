import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from dicom_node.config import NodeSettings, StorageSettings
from dicom_node.errors import SettingsError
from dicom_node.ledger import Ledger
from dicom_node.serve import serve
from dicom_node.spool import Spool
from tests.dicom_node.factories import RecordingDispatcher, node_settings
from tests.peers import Scanner

pytestmark = pytest.mark.network


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A listener in a process of its own, with its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dicom_node.serving", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=30)


def send_until_killed(port: int, images: list[Path], process: subprocess.Popen[str]) -> set[str]:
    """Store images until the listener is killed; return what was acknowledged."""
    ae = AE(ae_title="CT1")
    ae.dimse_timeout = ae.network_timeout = ae.acse_timeout = 10
    ae.add_requested_context(CTImageStorage, dcmread(images[0]).file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="PSOAS")
    assert association.is_established
    murderer = threading.Timer(random.uniform(0.02, 0.6), process.kill)  # noqa: S311 - no secret
    murderer.start()
    acknowledged = set()
    for path in images:
        dataset = dcmread(path)
        try:
            response = association.send_c_store(dataset)
        except RuntimeError:
            break  # pynetdicom's word for an association that has ended
        if getattr(response, "Status", None) == 0x0000:
            acknowledged.add(str(dataset.SOPInstanceUID))
    murderer.join()
    process.wait(timeout=30)
    association.abort()
    association.join(30)
    transport = association.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.close()
    return acknowledged


@pytest.mark.slow
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, demo_series: Path) -> None:
    images = sorted(demo_series.glob("*.dcm"))
    acknowledged: set[str] = set()
    for _ in range(2):
        with serving(tmp_path) as (process, port):
            acknowledged |= send_until_killed(port, images, process)
    spool = Spool.of(StorageSettings(folder=tmp_path))
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as ledger:
        series = ledger.list_series()
        recorded = {
            instance.sop_instance_uid: instance
            for record in series
            for instance in ledger.instances(record.series_instance_uid)
        }
    assert acknowledged <= set(recorded)
    for instance in recorded.values():
        data = spool.path(instance.path).read_bytes()[-instance.size_bytes :]
        assert hashlib.sha256(data).hexdigest() == instance.sha256


def test_sigterm_stops_it_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, port):
        assert Scanner(port).echo() == 0x0000
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@contextmanager
def in_this_process(
    settings: NodeSettings, dispatcher: RecordingDispatcher
) -> Iterator[tuple[int, threading.Event]]:
    """Serve in a thread; yields the port and what stops it."""
    stop, ports, ready = threading.Event(), list[int](), threading.Event()

    def on_ready(port: int) -> None:
        ports.append(port)
        ready.set()

    thread = threading.Thread(target=serve, args=(settings, dispatcher, stop, on_ready))
    thread.start()
    try:
        assert ready.wait(20)
        yield ports[0], stop
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_an_open_association_may_finish_within_its_grace(
    tmp_path: Path, demo_series: Path, soon: Callable[[Callable[[], bool]], None]
) -> None:
    settings = node_settings(tmp_path, listener={"stop_grace_s": 30.0})
    images = [dcmread(path) for path in sorted(demo_series.glob("*.dcm"))]
    ae = AE(ae_title="SCANNER")
    ae.add_requested_context(CTImageStorage, images[0].file_meta.TransferSyntaxUID)
    with in_this_process(settings, RecordingDispatcher()) as (port, stop):
        association = ae.associate("127.0.0.1", port, ae_title="PSOAS")
        assert association.send_c_store(images[0]).Status == 0x0000
        stop.set()
        soon(lambda: not takes_connections(port))  # newcomers are turned away at once
        statuses = [association.send_c_store(image).Status for image in images[1:]]
        assert statuses == [0x0000] * len(statuses)
        association.release()
        assert association.is_released


def test_an_address_in_use_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = node_settings(tmp_path, listener={"port": taken.getsockname()[1]})
        with pytest.raises(SettingsError, match="in use"):
            serve(settings, RecordingDispatcher(), threading.Event())


def test_a_series_goes_from_the_wire_to_the_queue(
    tmp_path: Path, demo_series: Path, soon: Callable[[Callable[[], bool]], None]
) -> None:
    completion = {"quiet_s": 0.5, "quiet_after_release_s": 0.1}
    settings = node_settings(tmp_path, completion=completion)
    dispatcher = RecordingDispatcher()
    with in_this_process(settings, dispatcher) as (port, _stop):
        Scanner(port).send(sorted(demo_series.glob("*.dcm")))
        soon(lambda: bool(dispatcher.analyses))
    uid = str(dcmread(next(demo_series.glob("*.dcm"))).SeriesInstanceUID)
    assert dispatcher.analyses == [(uid, 1)]
