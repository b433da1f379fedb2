"""What a run costs: CPU and memory of a tree of processes, and what the machine does besides."""

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_CORES = os.cpu_count() or 1
_START_S = 120.0


@dataclass
class Cost:
    """What happened between the two ends of ``measured``.

    Parameters
    ----------
    wall_s, cpu_s : float
        Of the watched processes.
    sender_cpu_s : float
        Of processes that this one started and waited for meanwhile.
    peak_mib : float
        Largest resident memory of the watched processes, seen at the end.
    other_load : float
        Share of the machine that everybody else took, 0 to 1.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    sender_cpu_s: float = 0.0
    peak_mib: float = 0.0
    other_load: float = 0.0


@contextmanager
def measured(pid: int) -> Iterator[Cost]:
    """Fill in what the processes below and with ``pid`` cost."""
    cost = Cost()
    busy, cpu, reaped, start = _busy_s(), tree_cpu_s(pid), _reaped_s(), time.perf_counter()
    yield cost
    cost.wall_s = time.perf_counter() - start
    cost.cpu_s = tree_cpu_s(pid) - cpu
    cost.sender_cpu_s = _reaped_s() - reaped
    cost.peak_mib = sum(_status_mib(member, "VmHWM") for member in _tree(pid))
    others_s = _busy_s() - busy - cost.cpu_s - cost.sender_cpu_s
    cost.other_load = max(0.0, others_s / cost.wall_s / _CORES)


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until somebody listens on loopback.

    Raises
    ------
    RuntimeError
        When the process ends or nothing listens in time.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def description() -> str:
    """The machine and the programs in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{_CORES} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}"
    )


def program_version(name: str) -> str:
    """First line of what a program says about its version, empty when it is not installed."""
    if shutil.which(name) is None:
        return ""
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    return next((line.strip() for line in (said.stdout + said.stderr).splitlines() if line), "")


def _busy_s() -> float:
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / _TICKS


def _reaped_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _tree(pid: int) -> list[int]:
    parents = {
        int(entry.name): int(fields[1])
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (fields := _stat(int(entry.name)))
    }
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def tree_cpu_s(pid: int) -> float:
    """User and system time of the living processes and of the children that they reaped."""
    return sum(
        sum(int(field) for field in fields[11:15]) / _TICKS
        for member in _tree(pid)
        if (fields := _stat(member))
    )


def resident_mib(pid: int) -> float:
    """Memory that a process and everything below it hold now."""
    return sum(_status_mib(member, "VmRSS") for member in _tree(pid))


def _status_mib(pid: int, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith(name)), "")
    return int(line.split()[1]) / 1024 if line else 0.0


def dcmtk(name: str) -> str:
    """Path of a program of DCMTK; pynetdicom brings others under the same names."""
    beside = shutil.which("dcmdump")
    return name if beside is None else str(Path(beside).with_name(name))
