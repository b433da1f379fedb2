"""How long results take: from the last image to SEG and SR stored in the PACS."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dicom_node.records import SeriesState
from tests.system.running_node import renewed_series, running_node


@dataclass(frozen=True, slots=True)
class Latency:
    """One series through a whole node.

    Parameters
    ----------
    wall_s : float
        From the answer to the last image to the last result stored.
    quiet_s : float
        The part of it that the node waited for further images.
    """

    wall_s: float
    quiet_s: float


def run_latency(source: Path, rounds: int) -> list[Latency]:
    """Send a series again and again, each time as a new patient's, to a node that is warm."""
    found = []
    with tempfile.TemporaryDirectory() as name, running_node(Path(name)) as node:
        for number in range(rounds + 1):
            series = renewed_series(source, Path(name) / f"series{number}")
            uid = node.send(series)
            start = time.perf_counter()
            node.wait_for(uid, SeriesState.DELIVERED)
            wall_s = time.perf_counter() - start
            if number:  # the first one warms the worker up
                found.append(Latency(wall_s, node.settings.completion.quiet_after_release_s))
    return found
