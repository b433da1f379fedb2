"""Two listeners, two workers of each queue, one Redis, one PostgreSQL; one of each is killed.

``python -m tests.system.test_beyond_one_machine 40`` sends that many series from each sender.
"""

import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from dicom_node.answers import keep_answers
from dicom_node.config import load_settings
from dicom_node.demo.processes import Part, Parts, free_port
from dicom_node.ledger import Ledger
from dicom_node.records import DeliveryState, SeriesState
from dicom_node.spool import Spool
from tests.peers import ScriptedPacs
from tests.phantoms import TorsoPhantom
from tests.servers import Server, postgresql, redis_server
from tests.system.running_node import wait_until

pytestmark = [
    *(pytest.mark.network, pytest.mark.redis, pytest.mark.slow),
    # pynetdicom leaves the socket of a refused connection to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTINGS = """\
[storage]
folder = "shared"
ledger_url = "{ledger_url}"
free_space_watermark_mib = 0
[broker]
url = "{broker_url}"
[listener]
port = {port}
[completion]
quiet_after_release_s = 0.5
quiet_s = 2.0
[worker]
time_limit_s = 2.0
[delivery]
first_wait_s = 0.5
longest_wait_s = 1.0
timeout_s = 5.0
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""
TRIES = 60


@dataclass
class Cluster:
    """Everything that runs, and what was acknowledged."""

    parts: Parts
    configs: tuple[Path, Path]
    ports: tuple[int, int]
    pacs: ScriptedPacs
    database: Server
    broker: Server
    acknowledged: dict[str, str] = field(default_factory=dict)

    def start(self, name: str) -> Part:
        """Start ``serve-0``, ``node-1`` and so on."""
        kind, number = name.split("-")
        config = str(self.configs[int(number)])
        if kind == "gpu":
            return self.parts.start_module(name, "tests.system.quick_worker", config)
        queue = ["--queue", "node"] if kind == "node" else []
        command = "serve" if kind == "serve" else "worker"
        return self.parts.start_psoas(name, command, *queue, "--config", config)

    def kill(self, name: str) -> None:
        part = next(part for part in self.parts.running if part.name == name)
        os.killpg(part.process.pid, signal.SIGKILL)
        part.process.wait()
        self.parts.running.remove(part)

    def send(self, paths: list[Path], first: int) -> None:
        """Send a series to either listener, as behind one address, until every image is taken."""
        missing = {path: dcmread(path) for path in paths}
        for number in range(TRIES):
            for path, dataset in self._store(list(missing.items()), (first + number) % 2):
                self.acknowledged[str(dataset.SOPInstanceUID)] = str(dataset.SeriesInstanceUID)
                del missing[path]
            if not missing:
                return
            threading.Event().wait(0.5)
        raise AssertionError(f"{len(missing)} images were never taken")

    def _store(
        self, files: list[tuple[Path, Dataset]], number: int
    ) -> Iterator[tuple[Path, Dataset]]:
        """Store over one association; yield what is acknowledged before the peer dies."""
        ae = AE(ae_title="SCANNER")
        ae.add_requested_context(CTImageStorage)
        association = ae.associate("127.0.0.1", self.ports[number], ae_title="PSOAS")
        keep_answers(association)
        for path, dataset in files:
            if not association.is_established:
                return
            with suppress(RuntimeError):  # it may end between the question and the request
                if getattr(association.send_c_store(dataset), "Status", None) == 0:
                    yield path, dataset
        if association.is_established:
            association.release()


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as resources:
        database = resources.enter_context(postgresql())
        broker = resources.enter_context(redis_server())
        pacs = ScriptedPacs()
        resources.callback(pacs.stop)
        ports = free_port(), free_port()
        configs = tuple(folder / f"node-{number}.toml" for number in range(2))
        for config, port in zip(configs, ports, strict=True):
            config.write_text(
                SETTINGS.format(
                    ledger_url=database.url,
                    broker_url=broker.url,
                    port=port,
                    pacs_port=pacs.port,
                )
            )
        parts = resources.enter_context(Parts(folder, threading.Event()))
        cluster = Cluster(parts, (configs[0], configs[1]), ports, pacs, database, broker)
        for name in ("serve-0", "serve-1", "gpu-0", "gpu-1", "node-0", "node-1"):
            cluster.start(name)
        for part in parts.running:
            text = b"listening" if part.name.startswith("serve") else b"ready to work"
            wait_until(lambda p=part, t=text: t in p.log.read_bytes(), f"start of {part.name}")
        yield cluster


def new_series(folder: Path) -> list[Path]:
    paths = TorsoPhantom(shape=(12, 8, 8)).write_series(folder)
    study, series = generate_uid(), generate_uid()
    for path in paths:
        dataset = dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(path)
    return paths


def prove(folder: Path, count: int) -> str:
    """Kill one of each under load; return what was found, or raise what is wrong."""
    with running_cluster(folder) as cluster:
        todo = [
            [new_series(folder / f"sender-{sender}" / str(number)) for number in range(count)]
            for sender in range(2)
        ]
        faults: list[BaseException] = []

        def send_all(sender: int) -> None:
            try:
                for paths in todo[sender]:
                    cluster.send(paths, sender)
            except BaseException as error:  # noqa: BLE001 - told by the main thread
                faults.append(error)

        senders = [threading.Thread(target=send_all, args=(sender,)) for sender in range(2)]
        for thread in senders:
            thread.start()
        with closing(Ledger.open(cluster.database.url)) as ledger:

            def at_work() -> bool:
                return any(
                    ledger.counts().get(state)
                    for state in (SeriesState.ANALYZING, SeriesState.QUEUED)
                )

            wait_until(at_work, "work")
            for name in ("serve-0", "gpu-0", "node-0"):
                cluster.kill(name)
            for thread in senders:
                thread.join()
            assert faults == []
            series = set(cluster.acknowledged.values())
            wait_until(
                lambda: ledger.counts() == {SeriesState.DELIVERED: len(series)},
                "delivery of all series",
            )
            return examine(cluster, ledger, series)


def examine(cluster: Cluster, ledger: Ledger, series: set[str]) -> str:
    spool = Spool.of(load_settings(cluster.configs[0]).storage)
    instances = [instance for uid in sorted(series) for instance in ledger.instances(uid)]
    # Nothing lost, nothing twice: what was acknowledged is there, once.
    recorded = Counter(instance.sop_instance_uid for instance in instances)
    assert set(cluster.acknowledged) <= set(recorded)
    assert set(recorded.values()) == {1}
    assert all(spool.path(instance.path).is_file() for instance in instances)
    # Images that came after their series was closed made a new revision, with a result of its own.
    current = [
        delivery
        for uid in series
        for delivery in ledger.deliveries.of(uid)
        if delivery.revision == ledger.series(uid).revision
        and delivery.state is not DeliveryState.SUPERSEDED
    ]
    wanted = {d.result.sop_instance_uid for d in current}
    assert len(current) == len(series)
    assert wanted <= set(cluster.pacs.received)
    return (
        f"{len(series)} series with {len(recorded)} images acknowledged, recorded and delivered; "
        f"{len(cluster.pacs.attempts)} C-STORE requests for {len(wanted)} results"
    )


def test_nothing_is_lost_or_doubled_when_one_of_each_is_killed(tmp_path: Path) -> None:
    assert "6 series with 72 images" in prove(tmp_path, 3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(prove(Path(name), int(sys.argv[1])) + "\n")
