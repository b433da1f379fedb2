"""How fast DICOM receivers take one series: ours beside Orthanc, DCMTK and pynetdicom."""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.demo.processes import free_port
from tests.benchmarks.machine import Cost, dcmtk, measured, resident_mib, wait_for_port

_REPOSITORY = Path(__file__).parents[2]
_ENOUGH_BYTES = 100_000
"""Files of the store that are larger are images."""

_AT_ONCE = 4

Command = Callable[[Path, int], list[str]]


def psoas(folder: Path, port: int) -> list[str]:
    """Our listener: flushed, indexed and recorded before each answer."""
    return [sys.executable, "-m", "tests.dicom_node.serving", str(folder), str(port)]


def orthanc(folder: Path, port: int) -> list[str]:
    """Orthanc with its defaults: flushed and indexed."""
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomAet": "PSOAS",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomCheckCalledAet": False,
        "Plugins": [],
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    return ["Orthanc", str(config)]


def storescp_fork(folder: Path, port: int) -> list[str]:
    """DCMTK's storescp, one process for each association: nothing flushed, no index."""
    return [dcmtk("storescp"), "--fork", "-od", str(folder), str(port)]


def pynetdicom_app(folder: Path, port: int) -> list[str]:
    """The storescp application of pynetdicom: nothing flushed, no index."""
    return [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(folder)]


RECEIVERS: dict[str, Command] = {
    "Psoas": psoas,
    "Orthanc": orthanc,
    "storescp --fork": storescp_fork,
    "pynetdicom storescp": pynetdicom_app,
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One cell of the table.

    Parameters
    ----------
    receiver : str
        Name in ``RECEIVERS``.
    associations : int
        That send a part of the series each, at the same time.
    nodelay : bool
        Whether DCMTK's programs set TCP_NODELAY; as shipped they do not.
    """

    receiver: str
    associations: int
    nodelay: bool


def run_trial(trial: Trial, images: Sequence[Path], folder: Path) -> Cost:
    """Send a series to a fresh receiver with an empty store, ``folder``.

    The store stays: ext4 looks at every file deleted within half a minute before it makes another.

    Raises
    ------
    RuntimeError
        When not every image was stored.
    """
    folder.mkdir()
    os.sync()  # what earlier receivers did not flush
    return send(trial, images, folder)


def send(trial: Trial, images: Sequence[Path], folder: Path) -> Cost:
    """Send a series to a fresh receiver with a store that may hold files already.

    Raises
    ------
    RuntimeError
        When not every image was stored.
    """
    environment = _environment(nodelay=trial.nodelay)
    with _receiver(trial, folder, environment) as (process, port):
        with measured(process.pid) as cost:
            _send(port, images, trial.associations, environment)
        kept = sum(
            path.is_file() and path.stat().st_size > _ENOUGH_BYTES and "index" not in path.name
            for path in folder.rglob("*")
            if ".sqlite" not in path.name
        )
        if kept < len(images):
            raise RuntimeError(f"{trial.receiver} kept {kept} of {len(images)} images")
        return cost


def memory_table(series: Sequence[Sequence[Path]], folder: Path) -> Iterator[str]:
    """Memory of one listener after each of several series, as a Markdown table."""
    folder.mkdir()
    environment = _environment(nodelay=True)
    received = 0
    yield "| images received | resident MiB |"
    yield "|---|---|"
    with _receiver(Trial("Psoas", _AT_ONCE, nodelay=True), folder, environment) as (process, port):
        for images in series:
            _send(port, images, _AT_ONCE, environment)
            received += len(images)
            yield f"| {received:,} | {resident_mib(process.pid):.0f} |"


def table(results: dict[Trial, list[Cost]], size_bytes: int, images: int) -> Iterator[str]:
    """The medians as rows of a Markdown table."""
    yield (
        "| receiver | associations | TCP_NODELAY | MB/s (least - most) | images/s | "
        "CPU s/GiB | memory MiB | other load |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for trial, costs in results.items():
        rates = sorted(size_bytes / 1e6 / cost.wall_s for cost in costs)
        cpu = statistics.median(cost.cpu_s for cost in costs) / (size_bytes / 2**30)
        yield (
            f"| {trial.receiver} | {trial.associations} | {'yes' if trial.nodelay else 'no'} "
            f"| {statistics.median(rates):.0f} ({rates[0]:.0f} - {rates[-1]:.0f}) "
            f"| {images / statistics.median(cost.wall_s for cost in costs):.0f} | {cpu:.1f} "
            f"| {statistics.median(cost.peak_mib for cost in costs):.0f} "
            f"| {statistics.median(cost.other_load for cost in costs):.0%} |"
        )


def _environment(*, nodelay: bool) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
    environment.pop("TCP_NODELAY", None)
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    return environment


@contextmanager
def _receiver(
    trial: Trial, folder: Path, environment: dict[str, str]
) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    port = free_port()
    process = subprocess.Popen(
        RECEIVERS[trial.receiver](folder, port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        wait_for_port(port, process)
        # The first association loads what only associations need.
        subprocess.run(
            [dcmtk("echoscu"), "-aec", "PSOAS", "127.0.0.1", str(port)], check=True, env=environment
        )
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _send(
    port: int, images: Sequence[Path], associations: int, environment: dict[str, str]
) -> None:
    command = [dcmtk("storescu"), "-aec", "PSOAS", "127.0.0.1", str(port)]
    senders = [
        subprocess.Popen(
            [*command, *map(str, images[number::associations])],
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        for number in range(associations)
    ]
    statuses = [sender.wait() for sender in senders]
    if any(statuses):
        raise RuntimeError("a sender failed")
