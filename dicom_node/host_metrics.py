"""What Prometheus reads of one host: disk and GPU. Needs neither ledger nor broker."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

_GPU_QUERY: Final = "index,utilization.gpu,memory.used,memory.total,temperature.gpu"
_GPU_TIMEOUT_S: Final = 5.0


class WorkerCollector(Collector):
    """Metrics of a host that measures and knows no ledger.

    Parameters
    ----------
    folder : Path
        With the spool.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    def collect(self) -> Iterator[Metric]:
        yield from disk_metrics(self._folder)
        yield from gpu_metrics()


def disk_metrics(folder: Path) -> Iterator[Metric]:
    """Tell how full the volume of the spool is."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return
    yield gauge("psoas_spool_free_bytes", "Free space of the spool's volume.", {(): usage.free})
    yield gauge("psoas_spool_size_bytes", "Size of the spool's volume.", {(): usage.total})


def gpu_metrics() -> Iterator[Metric]:
    """Tell how busy each GPU of this host is, as ``nvidia-smi`` says; nothing without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    command = [program, f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(  # noqa: S603 - the driver's own program
            command, check=True, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S
        )
        rows = [[cell.strip() for cell in line.split(",")] for line in run.stdout.splitlines()]
        yield from _gpu_families(rows)
    except (OSError, subprocess.SubprocessError, ValueError):
        return


def _gpu_families(rows: Iterable[list[str]]) -> list[Metric]:
    utilization = GaugeMetricFamily("psoas_gpu_utilization_ratio", "Busy share.", labels=["gpu"])
    used = GaugeMetricFamily("psoas_gpu_memory_used_bytes", "Memory in use.", labels=["gpu"])
    total = GaugeMetricFamily("psoas_gpu_memory_bytes", "Memory of the device.", labels=["gpu"])
    heat = GaugeMetricFamily("psoas_gpu_temperature_celsius", "Temperature.", labels=["gpu"])
    for gpu, busy, used_mib, total_mib, degrees in rows:
        utilization.add_metric([gpu], float(busy) / 100)
        used.add_metric([gpu], float(used_mib) * 2**20)
        total.add_metric([gpu], float(total_mib) * 2**20)
        heat.add_metric([gpu], float(degrees))
    return [utilization, used, total, heat]


def gauge(
    name: str, text: str, values: dict[tuple[tuple[str, str], ...], float]
) -> GaugeMetricFamily:
    """Make a gauge of values by their labels."""
    labels = next(iter(values))
    family = GaugeMetricFamily(name, text, labels=[key for key, _ in labels])
    for of_labels, value in values.items():
        family.add_metric([text for _, text in of_labels], value)
    return family
