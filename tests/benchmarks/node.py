"""What a whole node costs: its start, and series for an hour."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from dicom_node.records import SeriesState
from tests.benchmarks.machine import resident_mib, tree_cpu_s
from tests.system.running_node import RunningNode, renewed_series, running_node, wait_until

_PARTS = {"serve": "listener", "gpu": "GPU worker", "node": "worker of deliveries"}


def start_table(folder: Path, rounds: int) -> Iterator[str]:
    """Seconds until each part of a node is ready, and its memory then, as a Markdown table."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _PARTS}
    with running_node(folder) as node:
        for _ in range(rounds):
            for name in _PARTS:
                node.kill(name)
                start = time.perf_counter()
                part = node.start(name)
                node.wait_until_ready(name)
                ready_s = time.perf_counter() - start
                found[name].append((ready_s, resident_mib(part.process.pid)))
    yield "| part | s until ready (least - most) | memory MiB |"
    yield "|---|---|---|"
    for name, label in _PARTS.items():
        times = [one[0] for one in found[name]]
        yield (
            f"| {label} | {median(times):.1f} ({min(times):.1f} - {max(times):.1f}) "
            f"| {median(one[1] for one in found[name]):.0f} |"
        )


def throughput_table(
    source: Path, folder: Path, series: int, numbers_of_workers: Sequence[int]
) -> Iterator[str]:
    """Series for an hour with so many GPU workers, as a Markdown table."""
    slices = len(list(source.glob("*.dcm")))
    yield "| GPU workers | series | slices of each | series for an hour | CPU s for each |"
    yield "|---|---|---|---|---|"
    for workers in numbers_of_workers:
        home = folder / f"workers{workers}"
        home.mkdir()
        with running_node(home) as node:
            if workers == 2:
                _start_second(node)
            wall_s, cpu_s = _run(node, source, home, series)
        yield (
            f"| {workers} | {series} | {slices} | {3600 * series / wall_s:.0f} "
            f"| {cpu_s / series:.1f} |"
        )


def _start_second(node: RunningNode) -> None:
    node.parts.start_psoas("gpu2", "worker", "--queue", "gpu", "--config", str(node.config))
    node.wait_until_ready("gpu2")


def _run(node: RunningNode, source: Path, home: Path, series: int) -> tuple[float, float]:
    """Wall and CPU seconds from the first image to the last result, with warm workers."""
    copies = [renewed_series(source, home / f"series{number}") for number in range(series + 2)]
    _deliver(node, copies[:2])
    pids = [part.process.pid for part in node.parts.running]
    cpu_s, start = sum(map(tree_cpu_s, pids)), time.perf_counter()
    _deliver(node, copies[2:])
    return time.perf_counter() - start, sum(map(tree_cpu_s, pids)) - cpu_s


def _deliver(node: RunningNode, folders: Sequence[Path]) -> None:
    uids = [node.send(folder) for folder in folders]

    def all_delivered() -> bool:
        records = [node.ledger.series(uid) for uid in uids]
        return all(record.state is SeriesState.DELIVERED for record in records)

    wait_until(all_delivered, "delivery of every series")
