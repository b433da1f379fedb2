"""Kill receivers amid a transfer and fill their disks: what of the acknowledged is left?

    python -m tests.system.receivers --rounds 5

The same sends go to Psoas' listener, DCMTK's storescp and Orthanc, each as installed. A SIGKILL
leaves the page cache alone, so this is about the order of work, not about power cuts.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.config import load_settings
from dicom_node.demo.processes import Parts, free_port
from dicom_node.ledger import Ledger
from dicom_node.spool import Spool
from tests.benchmarks.machine import dcmtk
from tests.phantoms import TorsoPhantom
from tests.system.sending import SendingScanner, opened

IMAGES = 60
VOLUME_MIB = 24
_START_S = 120.0

SETTINGS = """\
[storage]
folder = "store"
free_space_watermark_mib = 0
[listener]
port = {port}
"""


@dataclass
class Receiver:
    """A program that stores images below ``folder/store``.

    ``command`` starts it; ``kept`` gives the digest of the pixels of everything that it has and
    can give back whole, by SOP Instance UID.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    kept: Callable[[Path, int], dict[str, str]]
    restarts: bool


def pixels(content: bytes) -> tuple[str, str] | None:
    """SOP Instance UID and digest of the pixels; ``None`` when the file is not whole."""
    try:
        dataset = dcmread(BytesIO(content))
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        if len(dataset.PixelData) != rows * columns * 2:
            return None
        return str(dataset.SOPInstanceUID), hashlib.sha256(dataset.PixelData).hexdigest()
    except (InvalidDicomError, AttributeError, EOFError, ValueError):
        return None


def _in_files(files: Sequence[Path]) -> dict[str, str]:
    return dict(found for file in files if (found := pixels(file.read_bytes())))


def psoas_command(folder: Path, port: int) -> list[str]:
    config = folder / "node.toml"
    config.write_text(SETTINGS.format(port=port))
    return [sys.executable, "-m", "dicom_node", "serve", "--config", str(config)]


def psoas_kept(folder: Path, _port: int) -> dict[str, str]:
    settings = load_settings(folder / "node.toml")
    spool = Spool.of(settings.storage)
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        series = ledger.list_series(limit=1000)
        known = [i for one in series for i in ledger.instances(one.series_instance_uid)]
    return _in_files([spool.path(instance.path) for instance in known])


def storescp_command(folder: Path, port: int) -> list[str]:
    (folder / "store").mkdir(exist_ok=True)
    return [dcmtk("storescp"), "--fork", "-od", str(folder / "store"), str(port)]


def storescp_kept(folder: Path, _port: int) -> dict[str, str]:
    return _in_files([path for path in (folder / "store").iterdir() if path.is_file()])


def orthanc_command(folder: Path, port: int) -> list[str]:
    configuration = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomPort": port,
        "HttpPort": port + 1,
        "DicomAet": "PSOAS",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    return ["Orthanc", str(file)]


def orthanc_kept(_folder: Path, port: int) -> dict[str, str]:
    root = f"http://127.0.0.1:{port + 1}/instances"

    def get(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - loopback
            content: bytes = response.read()
            return content

    found = [pixels(get(f"{root}/{number}/file")) for number in json.loads(get(root))]
    return dict(one for one in found if one)


RECEIVERS = (
    Receiver("Psoas", psoas_command, psoas_kept, restarts=True),
    Receiver("storescp", storescp_command, storescp_kept, restarts=False),
    Receiver("Orthanc", orthanc_command, orthanc_kept, restarts=True),
)


def play(receiver: Receiver, folder: Path, number: int, fault: str, delay_s: float) -> list[int]:
    """Send a series once while something happens; return how many were acknowledged and kept."""
    port = free_port()
    paths = TorsoPhantom(shape=(IMAGES, 128, 128), seed=number).write_series(folder / "series")
    expected = dict(found for path in paths if (found := pixels(path.read_bytes())))
    account = opened(paths, fault)
    with Parts(folder, threading.Event()) as parts:
        part = parts.start(receiver.name, receiver.command(folder, port))
        parts.wait_until(lambda: _listens(port), f"{receiver.name} listens", _START_S)
        scanner = _OneAttempt(port, paths, account)
        scanner.start()
        if fault == "killed":
            time.sleep(delay_s)
            os.killpg(part.process.pid, signal.SIGKILL)
            part.process.wait()
            parts.running.remove(part)
        scanner.join()
        if fault == "killed" and receiver.restarts:
            parts.start(receiver.name, receiver.command(folder, port))
            parts.wait_until(lambda: _listens(port), f"{receiver.name} listens", _START_S)
        kept = receiver.kept(folder, port)
    whole = [uid for uid in account.acknowledged if kept.get(uid) == expected[uid]]
    return [len(account.acknowledged), len(whole)]


class _OneAttempt(SendingScanner):
    """A scanner that believes every answer and does not try again."""

    def run(self) -> None:
        self._send(dict(self._datasets))


def _listens(port: int) -> bool:
    return (
        subprocess.run(
            [dcmtk("echoscu"), "-to", "2", "-aec", "PSOAS", "127.0.0.1", str(port)],
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )


def compare(rounds: int, seed: int, say: Callable[[str], None]) -> int:
    """Play every round with every receiver; return how many acknowledged images Psoas lost."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    delays = [chance.uniform(0.05, 1.0) for _ in range(rounds)]
    lost_by_psoas = 0
    faults = ["killed", *(["volume full"] if os.getuid() == 0 else [])]
    say(f"{'receiver':<10}{'fault':<14}{'acknowledged':>13}{'whole afterwards':>18}{'lost':>6}")
    for receiver in RECEIVERS:
        for fault in faults:
            totals = [0, 0]
            for number, delay_s in enumerate(delays, start=1):
                counts = _in_a_folder(receiver, number, fault, delay_s)
                totals = [total + count for total, count in zip(totals, counts, strict=True)]
            lost = totals[0] - totals[1]
            lost_by_psoas += lost if receiver.name == "Psoas" else 0
            say(f"{receiver.name:<10}{fault:<14}{totals[0]:>13}{totals[1]:>18}{lost:>6}")
    return lost_by_psoas


def _in_a_folder(receiver: Receiver, number: int, fault: str, delay_s: float) -> list[int]:
    folder = Path(tempfile.mkdtemp(prefix="psoas-receivers-"))
    store = folder / "store"
    store.mkdir()
    mounted = fault == "volume full" and _mount(store)
    try:
        if mounted:
            # Room for some of the images only.
            (store / "ballast").write_bytes(b"\0" * (VOLUME_MIB - 2) * 2**20)
        return play(receiver, folder, number, fault, delay_s)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(store)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(volume: Path) -> bool:
    options = ["-t", "tmpfs", "-o", f"size={VOLUME_MIB}m,mode=0700", "tmpfs", str(volume)]
    return subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    return 1 if compare(options.rounds, options.seed, say) else 0


if __name__ == "__main__":
    sys.exit(main())
