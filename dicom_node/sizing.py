"""How much of everything a site needs, from what was measured of one core.

Arithmetic, no promise: it knows neither the disks nor the networks of a site.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_GIB: Final = 2**30
_MIB: Final = 2**20
_HOUR_S: Final = 3_600

GROUPS: Final = (1, 5, 20, 100)
"""Hospitals of the table in the manual."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on one core (`python -m tests.benchmarks`, tables in README.md).

    The defaults come from a virtual machine with two shared cores (AMD EPYC), most of which other
    jobs took: seconds of CPU are rather too many than too few.

    Parameters
    ----------
    ingest_cpu_s_per_gib : float
        To receive, flush and index one GiB of CT.
    listener_mib_per_s : float
        What one listener took at the same time, eight associations.
    work_cpu_s_per_series : float
        To read a series of 300 slices and measure it on a CPU.
    ledger_bytes_per_image : float
        While its images are kept.
    """

    ingest_cpu_s_per_gib: float = 7.8
    listener_mib_per_s: float = 48.0
    work_cpu_s_per_series: float = 8.3
    ledger_bytes_per_image: float = 835.0


@dataclass(frozen=True, slots=True)
class Hospital:
    """What one hospital sends.

    Parameters
    ----------
    studies_per_day : float
        CT studies.
    series_per_study : float
    images_per_series : float
    image_mib : float
        Uncompressed: 512 by 512 pixels of 16 bits.
    measured_per_study : float
        Series of a study that rules choose; the others are only received.
    busiest_hour : float
        Share of a day's studies in its busiest hour.
    """

    studies_per_day: float = 100.0
    series_per_study: float = 3.0
    images_per_series: float = 300.0
    image_mib: float = 0.5
    measured_per_study: float = 1.0
    busiest_hour: float = 0.12

    @property
    def bytes_per_day(self) -> float:
        """Bytes of all images of a day."""
        return self.images_per_day * self.image_mib * _MIB

    @property
    def images_per_day(self) -> float:
        """Images of a day."""
        return self.studies_per_day * self.series_per_study * self.images_per_series


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is kept free.

    Parameters
    ----------
    load : float
        Share of a core, a listener or a link that the busiest hour may take.
    images_days : float
        ``retention.images_days``.
    """

    load: float = 0.5
    images_days: float = 7.0


@dataclass(frozen=True, slots=True)
class Need:
    """What so many hospitals need.

    Parameters
    ----------
    hospitals : int
    gib_per_day : float
    peak_mib_per_s : float
        Mean of the busiest hour.
    link_mbit_per_s : float
        At the share of load that the policy allows.
    listeners : int
        One more than the load asks for when there is more than one hospital: any of them may fail.
    ingest_cores, work_cores : int
        For listening; for measuring without any GPU.
    spool_tib : float
        Images that are kept.
    ledger_gib : float
    """

    hospitals: int
    gib_per_day: float
    peak_mib_per_s: float
    link_mbit_per_s: float
    listeners: int
    ingest_cores: int
    work_cores: int
    spool_tib: float
    ledger_gib: float


def need(hospitals: int, hospital: Hospital, measured: Measured, policy: Policy) -> Need:
    """Compute what so many equal hospitals need.

    Parameters
    ----------
    hospitals : int
    hospital : Hospital
    measured : Measured
    policy : Policy
    """
    per_day = hospital.bytes_per_day * hospitals
    peak_gib_per_s = per_day * hospital.busiest_hour / _HOUR_S / _GIB
    peak_mib_per_s = peak_gib_per_s * 1024
    peak_series_per_s = (
        hospital.studies_per_day
        * hospital.measured_per_study
        * hospitals
        * hospital.busiest_hour
        / _HOUR_S
    )
    images_kept = hospital.images_per_day * hospitals * policy.images_days
    busy = math.ceil(peak_mib_per_s / measured.listener_mib_per_s / policy.load)
    return Need(
        hospitals=hospitals,
        gib_per_day=per_day / _GIB,
        peak_mib_per_s=peak_mib_per_s,
        link_mbit_per_s=peak_mib_per_s * _MIB * 8 / 1e6 / policy.load,
        listeners=busy if hospitals == 1 else busy + 1,
        ingest_cores=_cores(peak_gib_per_s * measured.ingest_cpu_s_per_gib, policy),
        work_cores=_cores(peak_series_per_s * measured.work_cpu_s_per_series, policy),
        spool_tib=per_day * policy.images_days / _GIB / 1024,
        ledger_gib=images_kept * measured.ledger_bytes_per_image / _GIB,
    )


def table(needs: Iterable[Need]) -> Iterator[str]:
    """Write needs as rows of a Markdown table."""
    yield (
        "| hospitals | GiB a day | busiest hour, MiB/s | link, Mbit/s | listeners | cores to "
        "receive | cores to measure without GPU | spool, TiB | ledger, GiB | GPUs |"
    )
    yield "|---" * 10 + "|"
    for one in needs:
        yield (
            f"| {one.hospitals} | {one.gib_per_day:,.0f} | {one.peak_mib_per_s:.1f} | "
            f"{one.link_mbit_per_s:,.0f} | {one.listeners} | {one.ingest_cores} | "
            f"{one.work_cores} | {one.spool_tib:.1f} | {one.ledger_gib:.1f} | not measured |"
        )


def _cores(cpu_s_per_s: float, policy: Policy) -> int:
    return max(math.ceil(cpu_s_per_s / policy.load), 1)
