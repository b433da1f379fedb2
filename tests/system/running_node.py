"""A whole node as real processes, for tests to use and to break."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.broker import broker_folder, socket_path
from dicom_node.config import NodeSettings, load_settings
from dicom_node.demo.processes import Part, Parts, free_port
from dicom_node.ledger import Ledger
from dicom_node.records import UNDER_WAY, Delivery, SeriesState
from dicom_node.spool import Spool
from tests.peers import Scanner, ScriptedPacs

DEADLINE_S = 240.0
POLL_S = 0.05

SETTINGS = """\
[storage]
folder = "node"
free_space_watermark_mib = 0
[listener]
port = {port}
[completion]
quiet_after_release_s = 0.3
[delivery]
first_wait_s = 0.5
longest_wait_s = 1.0
timeout_s = 5.0
[worker]
time_limit_s = 60.0
[metrics]
port = {metrics_port}
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
objects = ["seg", "sr", "key_image", "not_analysed"]
"""


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until something holds that other processes bring about."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE_S:g} s"
        time.sleep(POLL_S)


@dataclass
class RunningNode:
    """Listener, worker of each queue and a scripted PACS, with the ledger to look at."""

    config: Path
    settings: NodeSettings
    parts: Parts
    ledger: Ledger
    pacs: ScriptedPacs

    def start(self, name: str) -> Part:
        """Start ``serve``, ``gpu`` or ``node``."""
        queue = [] if name == "serve" else ["--queue", name]
        command = name if name == "serve" else "worker"
        return self.parts.start_psoas(name, command, *queue, "--config", str(self.config))

    def part(self, name: str) -> Part:
        return next(part for part in self.parts.running if part.name == name)

    def wait_until_ready(self, name: str) -> None:
        log = self.part(name).log
        text = b"listening" if name == "serve" else b"ready to work"
        wait_until(lambda: text in log.read_bytes(), f"start of {name}")

    def kill(self, name: str) -> None:
        """SIGKILL a part and everything it started, as the kernel does without memory."""
        part = self.part(name)
        os.killpg(part.process.pid, signal.SIGKILL)
        part.process.wait()
        self.forget(part)

    def forget(self, part: Part) -> None:
        """Let go of a part that has ended; the log of its life is kept beside that of the next."""
        self.parts.running.remove(part)
        lives = len(list(part.log.parent.glob(f"{part.log.stem}.*.log")))
        part.log.rename(part.log.with_suffix(f".{lives}.log"))

    def kill_child(self, name: str) -> None:
        """SIGKILL the process that does the work and leave the one that watches it."""
        parent = self.part(name).process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def kill_broker(self) -> None:
        path = socket_path(broker_folder(self.settings))
        with redis.Redis(unix_socket_path=str(path)) as client:
            os.kill(int(client.info()["process_id"]), signal.SIGKILL)

    def restart_pacs(self) -> None:
        """A PACS that was down comes up again at its address."""
        self.pacs = ScriptedPacs(port=self.pacs.port)

    def send(self, folder: Path) -> str:
        """Send a series as a scanner does; return its UID."""
        paths = sorted(folder.glob("*.dcm"))
        statuses = Scanner(self.settings.listener.port).send(paths)
        assert statuses == [0x0000] * len(paths)
        return str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)

    def wait_for(self, uid: str, state: SeriesState) -> None:
        def reached() -> bool:
            record = self.ledger.series(uid)
            unwanted = {SeriesState.FAILED, SeriesState.QUARANTINED, SeriesState.SKIPPED} - {state}
            assert record.state not in unwanted, record.reason
            return record.state is state

        wait_until(reached, f"series {uid} {state.value}")

    def wait_until_idle(self) -> None:
        """Wait until no series is on its way through the node."""
        wait_until(lambda: not self.ledger.list_series(UNDER_WAY), "rest of the node")

    def deliveries(self, uid: str) -> tuple[Delivery, ...]:
        return self.ledger.deliveries.of(uid)

    def results(self, uid: str) -> dict[str, bytes]:
        """Content of the result objects in the spool, by SOP Instance UID."""
        spool = Spool.of(self.settings.storage)
        return {
            delivery.result.sop_instance_uid: spool.path(delivery.result.path).read_bytes()
            for delivery in self.deliveries(uid)
        }

    def events(self, uid: str) -> list[str]:
        return [entry.event for entry in self.ledger.history(uid)]

    def psoas(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run one command of ours to its end."""
        command = [sys.executable, "-m", "dicom_node", *arguments, "--config", str(self.config)]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=DEADLINE_S
        )


class StubbedNode(RunningNode):
    """A node whose worker of queue ``gpu`` answers at once, whatever the images show."""

    def start(self, name: str) -> Part:
        if name != "gpu":
            return super().start(name)
        return self.parts.start_module(name, "tests.system.stub_worker", str(self.config))


@contextmanager
def running_node(
    folder: Path, kind: type[RunningNode] = RunningNode, settings_text: str = SETTINGS
) -> Iterator[RunningNode]:
    """Start everything; stop everything at the end."""
    pacs = ScriptedPacs()
    config = folder / "node.toml"
    config.write_text(
        settings_text.format(port=free_port(), pacs_port=pacs.port, metrics_port=free_port())
    )
    settings = load_settings(config)
    settings.storage.folder.mkdir(exist_ok=True)
    with (
        Parts(folder, threading.Event()) as parts,
        closing(Ledger.open(settings.ledger_url)) as ledger,
    ):
        node = kind(config, settings, parts, ledger, pacs)
        for name in ("serve", "gpu", "node"):
            node.start(name)
        try:
            for name in ("serve", "gpu", "node"):
                node.wait_until_ready(name)
            yield node
        finally:
            node.pacs.stop()


def renewed_series(source: Path, folder: Path) -> Path:
    """Copy a series under new UIDs, as if the patient had been scanned once more."""
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for path in sorted(source.glob("*.dcm")):
        dataset = dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / path.name)
    return folder
