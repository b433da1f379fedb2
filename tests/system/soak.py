"""Send thousands of series through a running node and watch what it keeps.

    python -m tests.system.soak --series 2000

Listener, broker, workers (the one that measures is a stub) and ledger are what a site runs;
retention keeps images and records for seconds instead of weeks, so that what grows without end
shows. Prints memory, open files and sizes of ledger and spool after each batch, and at the end by
how much the second half of the run exceeds the first.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from dicom_node.records import SeriesState
from tests.system.running_node import RunningNode, StubbedNode, running_node
from tests.system.sending import SendingScanner, Sent, opened, small_series

SETTINGS = """\
[storage]
folder = "node"
free_space_watermark_mib = 0
[listener]
port = {port}
[completion]
quiet_after_release_s = 0.3
[retention]
images_days = 0.0002
skipped_days = 0.0002
records_days = 0.0002
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""
SCANNERS = 4
GROWTH_ALLOWED = 1.15
_PATIENCE_S = 600.0
_PARTS = ("serve", "gpu", "node")


@dataclass(frozen=True)
class Sample:
    """What the node holds at one moment; sizes in MiB."""

    series: int
    memory: float
    files: int
    ledger: float
    spool: float
    broker: float

    def line(self) -> str:
        return (
            f"{self.series:>7}{self.memory:>12.1f}{self.files:>8}{self.ledger:>12.2f}"
            f"{self.spool:>11.2f}{self.broker:>12.2f}"
        )


HEAD = (
    f"{'series':>7}{'memory MiB':>12}{'files':>8}{'ledger MiB':>12}"
    f"{'spool MiB':>11}{'broker MiB':>12}"
)


def take_sample(node: RunningNode, count: int) -> Sample:
    """Look at every process of the node and at its folder."""
    processes = [pid for name in _PARTS for pid in _family(node.part(name).process.pid)]
    folder = node.settings.storage.folder
    return Sample(
        series=count,
        memory=sum(map(_resident_mib, processes)),
        files=sum(map(_open_files, processes)),
        ledger=sum(_size_mib(path) for path in folder.glob("ledger.sqlite*")),
        spool=_size_mib(folder / "spool"),
        broker=_size_mib(folder / "broker"),
    )


def send_batch(node: RunningNode, folder: Path, first: int, count: int) -> None:
    """Send ``count`` series from four scanners; return when all results are at the PACS."""
    accounts = []
    for start in range(first, first + count, SCANNERS):
        numbers = range(start, min(start + SCANNERS, first + count))
        scanners = [_scanner(node, folder, number, accounts) for number in numbers]
        for scanner in scanners:
            scanner.join()
    deadline = time.monotonic() + _PATIENCE_S
    while (waiting := _unfinished(node)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not waiting, f"{waiting} series did not end"
    assert all(len(account.acknowledged) for account in accounts)
    node.pacs.received.clear()
    node.pacs.attempts.clear()


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """How much more the last third of the samples holds than the middle third."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    return {
        name: mean(getattr(s, name) for s in last) / max(mean(getattr(s, name) for s in middle), 1)
        for name in ("memory", "files", "ledger", "spool")
    }


def soak(
    node: RunningNode, folder: Path, series: int, batch: int, say: Callable[[str], None]
) -> list[Sample]:
    """Send everything, batch after batch."""
    say(HEAD)
    samples = []
    for first in range(1, series + 1, batch):
        send_batch(node, folder, first, min(batch, series + 1 - first))
        samples.append(take_sample(node, first + batch - 1))
        say(samples[-1].line())
    return samples


def _scanner(node: RunningNode, folder: Path, number: int, accounts: list[Sent]) -> SendingScanner:
    paths = small_series(folder / str(number), number)
    accounts.append(opened(paths, "soak"))
    scanner = SendingScanner(node.settings.listener.port, paths, accounts[-1])
    shutil.rmtree(folder / str(number))
    scanner.start()
    return scanner


def _unfinished(node: RunningNode) -> int:
    counts = node.ledger.counts()
    ended = (SeriesState.DELIVERED, SeriesState.SKIPPED, SeriesState.FAILED)
    return sum(count for state, count in counts.items() if state not in ended)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _size_mib(path: Path) -> float:
    # Unlike ``rglob``, this goes on where retention deletes a folder meanwhile.
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    files = [path] if path.is_file() else found
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:
            continue  # retention was quicker
    return total / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=100)
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    folder = Path(tempfile.mkdtemp(prefix="psoas-soak-"))
    try:
        with running_node(folder, StubbedNode, SETTINGS) as node:
            samples = soak(node, folder / "series", options.series, options.batch, say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    grown = growth(samples)
    say(", ".join(f"{name} x {factor:.2f}" for name, factor in grown.items()))
    return 0 if all(factor <= GROWTH_ALLOWED for factor in grown.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
