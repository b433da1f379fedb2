"""Run the benchmarks: ``python -m tests.benchmarks [NAME ...] [--rounds N] [--out FOLDER]``.

Prints Markdown: the machine first, then one section for each benchmark; ``--out`` keeps it in a
folder, with drawings. Receivers take turns within each round, so that what else the machine does
meets all of them. Peers that are not installed are left out.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.ingest import RECEIVERS, Trial, memory_table, run_trial, table
from tests.benchmarks.ledger_growth import ledger_table, run_ledger
from tests.benchmarks.machine import Cost, description, program_version
from tests.benchmarks.series import write_resliced, write_series
from tests.benchmarks.spool_growth import run_spool, spool_table

_DEMO = Path(__file__).parents[2] / "dicom_node" / "demo" / "ct"
_FEW_SLICES = 20
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
    files : tuple of int
        That lie in the spool.
    many_associations, many_slices : tuple of int
        How far growth is followed.
    whole_series : int
        That go through a whole node.
    workers : tuple of int
        One or two at work in it.
    patch_cells : int
        Edge of the window of the 3D network.
    compiling : bool
        Whether PyTorch's compiler takes part, which needs minutes.
    """

    rounds: int = 5
    images: int = 300
    associations: tuple[int, ...] = (1, 4, 8)
    series: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    files: tuple[int, ...] = (3_000, 100_000, 1_000_000)
    many_associations: tuple[int, ...] = (1, 10, 25, 50)
    many_slices: tuple[int, ...] = (100, 300, 1_000, 3_000)
    whole_series: int = 10
    workers: tuple[int, ...] = (1, 2)
    patch_cells: int = 128
    compiling: bool = True


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
    results = _run_trials(trials, images, extent.rounds, folder)
    yield from table(results, size_bytes, len(images))


def associations(extent: Extent, folder: Path) -> Iterator[str]:
    """Receive one series on more and more associations at once."""
    images = write_series(folder / "series", extent.images)
    size_bytes = sum(path.stat().st_size for path in images)
    trials = [Trial("Psoas", number, nodelay=True) for number in extent.many_associations]
    results = _run_trials(trials, images, extent.rounds, folder)
    yield from table(results, size_bytes, len(images))


def _run_trials(
    trials: list[Trial], images: list[Path], rounds: int, folder: Path
) -> dict[Trial, list[Cost]]:
    size_bytes = sum(path.stat().st_size for path in images)
    results: dict[Trial, list[Cost]] = {trial: [] for trial in trials}
    for number in range(rounds):
        for trial in trials:
            count = sum(map(len, results.values()))
            cost = run_trial(trial, images, folder / f"store{count}")
            results[trial].append(cost)
            rate = size_bytes / 1e6 / cost.wall_s
            print(f"# round {number + 1}: {trial}: {rate:.0f} MB/s", file=sys.stderr)  # noqa: T201
    return results


def slices(extent: Extent, folder: Path) -> Iterator[str]:
    """Measure longer and longer series with warm models."""
    from pipeline.analyze import load_models
    from tests.benchmarks.stages import growth_table

    models = load_models(None, None)
    yield from growth_table(
        {
            number: write_resliced(_DEMO, folder / f"series{number}", number)
            for number in extent.many_slices
        },
        models,
    )


def start(extent: Extent, folder: Path) -> Iterator[str]:
    """Start each part of a node."""
    from tests.benchmarks.node import start_table

    yield from start_table(folder, extent.rounds)


def throughput(extent: Extent, folder: Path) -> Iterator[str]:
    """Send many series to a whole node."""
    from tests.benchmarks.node import throughput_table

    write_resliced(_DEMO, folder / "series", extent.images)
    yield from throughput_table(folder / "series", folder, extent.whole_series, extent.workers)


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


def runtimes(extent: Extent, folder: Path) -> Iterator[str]:
    """Segment one slice with every runtime that is installed."""
    from pipeline.analyze import load_models
    from pipeline.objects.ct_series import read_files, read_volume
    from tests.benchmarks.runtimes import runtimes_table

    paths = write_resliced(_DEMO, folder / "series", _FEW_SLICES)
    volume = read_volume(next(iter(read_files(paths).values())))
    models = load_models(None, None)
    slice_index = models.level_finder.find(volume).slice_index
    yield from runtimes_table(
        models.segmenter, volume, slice_index, extent.rounds, compiling=extent.compiling
    )


def whole_volume(extent: Extent, folder: Path) -> Iterator[str]:
    """Find and segment one slice, beside a 3D network over the whole volume."""
    from pipeline.analyze import load_models
    from pipeline.objects.ct_series import read_files, read_volume
    from tests.benchmarks.runtimes import whole_volume_table

    paths = write_resliced(_DEMO, folder / "series", extent.images)
    volume = read_volume(next(iter(read_files(paths).values())))
    yield from whole_volume_table(
        load_models(None, None), volume, extent.patch_cells, extent.rounds
    )


def ledger(extent: Extent, folder: Path) -> Iterator[str]:
    """Ask ledgers of several sizes."""
    yield from ledger_table({size: run_ledger(folder, size) for size in extent.series})


def spool(extent: Extent, folder: Path) -> Iterator[str]:
    """Start, receive and answer with spools of several sizes."""
    images = write_series(folder / "series", extent.images)
    results = {files: run_spool(folder / f"node{files}", files, images) for files in extent.files}
    yield from spool_table(results)


def memory(extent: Extent, folder: Path) -> Iterator[str]:
    """Receive one series after the other in one process."""
    series = [
        write_series(folder / f"series{seed}", extent.images, seed)
        for seed in range(1, extent.rounds + 1)
    ]
    yield from memory_table(series, folder / "store")


BENCHMARKS: dict[str, Callable[[Extent, Path], Iterator[str]]] = {
    "ingest": ingest,
    "stages": stages,
    "associations": associations,
    "slices": slices,
    "latency": latency,
    "throughput": throughput,
    "start": start,
    "runtimes": runtimes,
    "whole_volume": whole_volume,
    "ledger": ledger,
    "spool": spool,
    "memory": memory,
}


def main() -> None:
    """Run what the command line names and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", help="all when none is given")
    parser.add_argument("--rounds", type=int, default=Extent().rounds)
    parser.add_argument("--images", type=int, default=Extent().images)
    parser.add_argument("--out", type=Path, help="a folder for benchmarks.md and drawings")
    asked = parser.parse_args()
    versions = "; ".join(filter(None, map(program_version, _PROGRAMS.values())))
    report = Report(asked.out)
    report.write(description())
    report.write(versions)
    run(asked.names or BENCHMARKS, Extent(rounds=asked.rounds, images=asked.images), report)


class Report:
    """What was found: printed, and kept in a folder when one is given.

    Parameters
    ----------
    folder : Path or None
        Made when it is missing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "benchmarks.md").write_text("")

    def write(self, line: str) -> None:
        """Add a line."""
        print(line, flush=True)  # noqa: T201
        if self._folder is not None:
            with (self._folder / "benchmarks.md").open("a") as file:
                file.write(line + "\n")

    def draw(self, name: str, lines: Sequence[str]) -> None:
        """Add a drawing of a table."""
        if self._folder is not None:
            # Takes as long to load as a short benchmark.
            from tests.benchmarks.plots import save_drawing

            save_drawing(name, lines, self._folder)


def run(names: Iterable[str], extent: Extent, report: Report) -> None:
    """Run benchmarks and report each one as soon as it is done."""
    for name in names:
        report.write(f"\n### {name}\n")
        lines: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            for line in BENCHMARKS[name](extent, Path(folder)):
                report.write(line)
                lines.append(line)
        report.draw(name, lines)


if __name__ == "__main__":
    main()
