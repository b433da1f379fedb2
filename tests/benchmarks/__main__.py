"""Run the benchmarks: ``python -m tests.benchmarks [NAME ...] [--rounds N] [--images N]``.

Prints Markdown: the machine first, then one section for each benchmark. Receivers take turns
within each round, so that what else the machine does meets all of them. Peers that are not
installed are left out.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.ingest import RECEIVERS, Trial, run_trial, table
from tests.benchmarks.ledger_growth import ledger_table, run_ledger
from tests.benchmarks.machine import Cost, description, program_version
from tests.benchmarks.series import write_resliced, write_series

_DEMO = Path(__file__).parents[2] / "dicom_node" / "demo" / "ct"
_PROGRAMS = {"Orthanc": "Orthanc", "storescp --fork": "storescp"}


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is run.

    Parameters
    ----------
    rounds : int
    images : int
        Of a series.
    associations : tuple of int
    series : tuple of int
        Sizes of the ledger.
    """

    rounds: int = 5
    images: int = 300
    associations: tuple[int, ...] = (1, 4, 8)
    series: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)


def ingest(extent: Extent, folder: Path) -> Iterator[str]:
    """Receive one series: ours beside the peers, with and without TCP_NODELAY."""
    images = write_series(folder / "series", extent.images)
    size_bytes = sum(path.stat().st_size for path in images)
    there = [n for n in RECEIVERS if n not in _PROGRAMS or shutil.which(_PROGRAMS[n])]
    trials = [
        Trial(receiver, associations, nodelay)
        for nodelay in (True, False)
        for associations in extent.associations
        for receiver in there
    ]
    results: dict[Trial, list[Cost]] = {trial: [] for trial in trials}
    for number in range(extent.rounds):
        for trial in trials:
            cost = run_trial(trial, images)
            results[trial].append(cost)
            rate = size_bytes / 1e6 / cost.wall_s
            print(f"# round {number + 1}: {trial}: {rate:.0f} MB/s", file=sys.stderr)  # noqa: T201
    yield from table(results, size_bytes, len(images))


def stages(extent: Extent, folder: Path) -> Iterator[str]:
    """Measure one series with warm models, step by step."""
    # Loads the networks' packages, which take longer than most other benchmarks.
    from pipeline.analyze import load_models
    from tests.benchmarks.stages import run_stages

    paths = write_resliced(_DEMO, folder / "series", extent.images)
    yield from run_stages(paths, load_models(None, None), extent.rounds).table()


def latency(extent: Extent, folder: Path) -> Iterator[str]:
    """Wait for the results of a series that goes through a whole node."""
    from tests.benchmarks.latency import run_latency

    write_resliced(_DEMO, folder / "series", extent.images)
    found = run_latency(folder / "series", extent.rounds)
    walls = sorted(one.wall_s for one in found)
    work = statistics.median(one.wall_s - one.quiet_s for one in found)
    yield "| slices | last image to results, s (least - most) | without the quiet period, s |"
    yield "|---|---|---|"
    median = statistics.median(walls)
    yield f"| {extent.images} | {median:.1f} ({walls[0]:.1f} - {walls[-1]:.1f}) | {work:.1f} |"


def ledger(extent: Extent, folder: Path) -> Iterator[str]:
    """Ask ledgers of several sizes."""
    yield from ledger_table({size: run_ledger(folder, size) for size in extent.series})


BENCHMARKS: dict[str, Callable[[Extent, Path], Iterator[str]]] = {
    "ingest": ingest,
    "stages": stages,
    "latency": latency,
    "ledger": ledger,
}


def main() -> None:
    """Run what the command line names and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", help="all when none is given")
    parser.add_argument("--rounds", type=int, default=Extent().rounds)
    parser.add_argument("--images", type=int, default=Extent().images)
    asked = parser.parse_args()
    extent = Extent(rounds=asked.rounds, images=asked.images)
    print(description())  # noqa: T201
    print("; ".join(filter(None, map(program_version, _PROGRAMS.values()))))  # noqa: T201
    for name in asked.names or BENCHMARKS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n### {name}\n")  # noqa: T201
            for line in BENCHMARKS[name](extent, Path(folder)):
                print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
