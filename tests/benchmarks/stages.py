"""What each step of a measurement costs a warm worker."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from statistics import median

from pipeline.analyze import AnalysisRequest, Models, analyze_series
from pipeline.objects.ct_series import read_files, read_volume
from pipeline.objects.eligibility import check_eligibility
from pipeline.segment import segment


@dataclass
class Stopwatch:
    """Wall and CPU seconds of named steps, each measured any number of times."""

    wall_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall_s.setdefault(name, []).append(time.perf_counter() - wall)
        self.cpu_s.setdefault(name, []).append(time.process_time() - cpu)

    def table(self) -> Iterator[str]:
        """The medians as rows of a Markdown table."""
        yield "| step | wall s | CPU s |"
        yield "|---|---|---|"
        for name, walls in self.wall_s.items():
            yield f"| {name} | {median(walls):.2f} | {median(self.cpu_s[name]):.2f} |"


def run_stages(paths: Sequence[Path], models: Models, rounds: int) -> Stopwatch:
    """Measure a series again and again, with everything loaded."""
    watch = Stopwatch()
    request = AnalysisRequest(datetime(2026, 1, 2, tzinfo=UTC), "benchmark")
    for _ in range(rounds):
        with watch.step("read headers"):
            (datasets,) = read_files(paths).values()
        with watch.step("decide whether it is eligible"):
            check_eligibility(datasets)
        with watch.step("read pixels into a volume"):
            volume = read_volume(datasets)
        with watch.step("find L3"):
            level = models.level_finder.find(volume)
        with watch.step("segment"):
            segment(models.segmenter, volume, level)
        with watch.step("read headers"):
            (datasets,) = read_files(paths).values()
        with watch.step("all: volume to result objects"):
            _, objects = analyze_series(datasets, models, request)
        with watch.step("write result objects"):
            for dataset in objects.values():
                dataset.save_as(BytesIO(), enforce_file_format=True)
    return watch


def growth_table(series: Mapping[int, Sequence[Path]], models: Models) -> Iterator[str]:
    """Each step's wall seconds by the number of slices, as a Markdown table."""
    found = {slices: run_stages(paths, models, 1).wall_s for slices, paths in series.items()}
    yield "| step, wall s | " + " | ".join(f"{slices:,} slices" for slices in found) + " |"
    yield "|---" * (len(found) + 1) + "|"
    for name in next(iter(found.values())):
        yield (
            f"| {name} | " + " | ".join(f"{walls[name][0]:.2f}" for walls in found.values()) + " |"
        )
