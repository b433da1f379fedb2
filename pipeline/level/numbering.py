"""Probabilities of where each vertebra lies, by a hidden Markov model over ordered body centres.

A state is a vertebra (number, row). Vertebrae are numbered from T1 = 1 to L5 = 17, S1 = 18 and
S2 = 19; rows run to the head, ``ROW_MM`` apart. What the networks see in a row is evidence for a
state, the distance of neighbouring centres is evidence for a step; the forward-backward algorithm
sums over all chains of vertebrae.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import log_ndtr

from pipeline.level.projections import ROW_MM

S1_NUMBER: Final = 18
FIRST_CLASS_NUMBER: Final = 7
"""The first class stands for this vertebra and everything cranial of it, the last for everything
below S1 and everything that is not spine."""

_NUMBERS: Final = 19

# Distance in mm from the centre of a vertebra to that of the next one above: mean by number, from
# T2 (to T1) to S2 (to S1), and what it varies by from person to person.
_GAP_MEAN_MM: Final = (
    21.0, 21.0, 21.0, 22.0, 22.0, 23.0, 24.0, 25.0, 26.0, 28.0, 30.0, 32.0, 34.0, 35.0, 36.0,
    35.0, 31.0, 26.0,
)  # fmt: skip
_GAP_SPREAD: Final = 0.16

_LEAST_PROBABILITY: Final = 0.06
"""A network that is sure and wrong in a few rows must not decide alone."""

_CHAIN_GAP_MM: Final = (20.0, 42.0)
_CHAIN_GAP_SIGMA_MM: Final = 4.0
_WEAKEST_CENTRE: Final = 0.25

_STRENGTH_FLOOR: Final = 0.03
_STRENGTH_NEUTRAL: Final = 0.25
_LEVEL_WEIGHT: Final = 0.55
"""Rows and views err together: each counts less than an independent observation."""

_THORACIC_SHARE: Final = 0.4
"""Upper vertebrae look alike; they tell less about where L3 is than the lumbar spine."""

_LAST_THORACIC_OF_LITTLE_WEIGHT: Final = 10

_OUTSIDE_ROWS: Final = 30
_ROWS_PER_VERTEBRA: Final = 15
_S2_COST: Final = -2.0
_LEAST_LOG: Final = -12.0

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Where vertebrae lie.

    Parameters
    ----------
    probability : NDArray[np.float64], shape (numbers, rows)
        That the centre of a vertebra lies in a row; row ``n - 1`` of the array is vertebra ``n``.
        Its sum over rows is the probability that the centre lies within the volume.
    """

    probability: Rows

    def covered(self, number: int) -> float:
        """Probability that the centre of vertebra ``number`` lies within the volume."""
        return float(self.probability[number - 1].sum())

    def best_row(self, number: int, within_mm: float) -> tuple[float, float]:
        """Likeliest row of a centre and the probability that it lies ``within_mm`` of it."""
        line = self.probability[number - 1]
        half = round(within_mm / ROW_MM)
        mass = ndimage.convolve1d(line, np.ones(2 * half + 1), mode="constant")
        peak = int(np.argmax(mass * (1 - 1e-6) + line * 1e-6))
        low, high = max(peak - half, 0), min(peak + half + 1, len(line))
        weights = line[low:high] + 1e-12
        row = float(np.arange(low, high) @ weights / weights.sum())
        return row, float(line[low:high].sum())


def locate(strength: Rows, views: tuple[Rows, Rows]) -> Positions:
    """Weigh all chains of vertebrae.

    Parameters
    ----------
    strength : NDArray[np.float64], shape (rows,)
        How much each row looks like the middle of a vertebral body, 0 to 1.
    views : pair of NDArray[np.float64], shape (classes, rows)
        Probabilities of the classes by the side view and by the front view.

    Returns
    -------
    Positions
    """
    evidence = _evidence(strength, views)
    steps, step_cost = _steps()
    start = _start(evidence.shape[1], views)
    stop = _stop(evidence.shape[1])
    forward = _swept(evidence, steps, step_cost, start)
    backward = _swept_back(evidence, steps, step_cost, stop)
    joint = forward + backward - evidence
    paths = forward + stop
    total = np.logaddexp.reduce(paths, axis=None)
    return Positions(np.exp(joint - total))


def find_chain(strength: Rows) -> Rows:
    """Find the rows of neighbouring vertebrae.

    Parameters
    ----------
    strength : NDArray[np.float64], shape (rows,)
        How much each row looks like the middle of a vertebral body, 0 to 1.

    Returns
    -------
    NDArray[np.float64], shape (vertebrae,)
        Ascending rows with fractions; empty when nothing looks like a vertebra.
    """
    count = len(strength)
    gaps = np.arange(round(12 / ROW_MM), round(60 / ROW_MM))
    gap_mm = gaps * ROW_MM
    excess = np.maximum(0, np.maximum(_CHAIN_GAP_MM[0] - gap_mm, gap_mm - _CHAIN_GAP_MM[1]))
    cost = (excess / _CHAIN_GAP_SIGMA_MM) ** 2
    gain = strength - _WEAKEST_CENTRE
    total, previous = gain.copy(), np.full(count, -1)
    for row in range(gaps[0], count):
        usable = gaps[gaps <= row]
        joined = total[row - usable] - cost[: len(usable)]
        best = int(np.argmax(joined))
        if joined[best] > 0:
            total[row] += joined[best]
            previous[row] = row - usable[best]
    row = int(np.argmax(total))
    chain = []
    while row >= 0 and total[row] > 0:
        chain.append(row)
        row = int(previous[row])
    return np.array([_refined(strength, row) for row in reversed(chain)])


def _evidence(strength: Rows, views: tuple[Rows, Rows]) -> Rows:
    """Log-likelihood ratio of each state (numbers, rows) against "nothing special here"."""
    ratio = np.log((strength + _STRENGTH_FLOOR) / (_STRENGTH_NEUTRAL + _STRENGTH_FLOOR))
    evidence = np.repeat(ratio[None], _NUMBERS, axis=0)
    for view in views:
        classes = view.shape[0]
        support = np.log((view + _LEAST_PROBABILITY) / (1 / classes + _LEAST_PROBABILITY))
        support = ndimage.uniform_filter1d(support, 5, axis=1, mode="nearest")
        for number in range(1, _NUMBERS + 1):
            place = min(max(number - FIRST_CLASS_NUMBER, 0), classes - 1)
            little = number <= _LAST_THORACIC_OF_LITTLE_WEIGHT
            weight = _LEVEL_WEIGHT * (_THORACIC_SHARE if little else 1.0)
            evidence[number - 1] += weight * support[place]
    return evidence


def _gap_rows() -> tuple[NDArray[np.int64], Rows, Rows]:
    """Possible gaps in rows, and mean and spread of the gap above each number from T2 to S2."""
    mean = np.array(_GAP_MEAN_MM) / ROW_MM
    return np.arange(6, round(60 / ROW_MM)), mean, mean * _GAP_SPREAD


def _steps() -> tuple[NDArray[np.int64], Rows]:
    """Gaps in rows and the log-cost (numbers, gaps) of a gap above each number."""
    gaps, mean, spread = _gap_rows()
    cost = -0.5 * ((gaps[None] - mean[:, None]) / spread[:, None]) ** 2
    # T1 has no neighbour above that is modelled.
    return gaps, np.concatenate([np.full((1, len(gaps)), -np.inf), cost])


def _start(rows: int, views: tuple[Rows, Rows]) -> Rows:
    """Log-cost (numbers, rows) of a state being the lowest one.

    S1 and S2 may be it anywhere, with nothing but "outside" below; another vertebra only where
    the next one would lie below the volume.
    """
    _, mean, spread = _gap_rows()
    start = np.empty((_NUMBERS, rows))
    place = np.arange(rows)
    start[:-1] = _log_exceeds(place[None], mean[:, None], spread[:, None])
    below = np.zeros(rows)
    for view in views:
        outside = (view[-1] + _LEAST_PROBABILITY) / (1 / view.shape[0] + _LEAST_PROBABILITY)
        support = np.concatenate([[0.0], np.cumsum(np.log(outside))])[:-1]
        # Two vertebrae's height of "outside" tells all there is to tell.
        start_of_window = np.maximum(place - _OUTSIDE_ROWS, 0)
        below += (support - support[start_of_window]) * _LEVEL_WEIGHT / _ROWS_PER_VERTEBRA
    start[S1_NUMBER - 1] = np.logaddexp(start[S1_NUMBER - 1], below)
    start[_NUMBERS - 1] = below + _S2_COST
    return start


def _stop(rows: int) -> Rows:
    """Log-cost (numbers, rows) of a state being the highest one."""
    _, mean, spread = _gap_rows()
    room = np.arange(rows)[::-1]
    stop = np.zeros((_NUMBERS, rows))
    stop[1:] = _log_exceeds(room[None], mean[:, None], spread[:, None])
    return stop


def _log_exceeds(room: NDArray[np.int64], mean: Rows, spread: Rows) -> Rows:
    """Log-probability that a gap is larger than ``room``."""
    logarithm: Rows = np.maximum(log_ndtr((mean - room) / spread), _LEAST_LOG)
    return logarithm


def _swept(evidence: Rows, steps: NDArray[np.int64], cost: Rows, start: Rows) -> Rows:
    """Sum of all chains that end in a state, coming from below; logarithms (numbers, rows)."""
    total = np.empty_like(evidence)
    total[-1] = evidence[-1] + start[-1]
    for number in range(len(evidence) - 2, -1, -1):
        reached = _shifted_sum(total[number + 1], steps, cost[number + 1])
        total[number] = evidence[number] + np.logaddexp(start[number], reached)
    return total


def _swept_back(evidence: Rows, steps: NDArray[np.int64], cost: Rows, stop: Rows) -> Rows:
    """Sum of all chains that begin in a state, going up; logarithms (numbers, rows)."""
    total = np.empty_like(evidence)
    total[0] = evidence[0] + stop[0]
    for number in range(1, len(evidence)):
        reached = _shifted_sum(total[number - 1][::-1], steps, cost[number])[::-1]
        total[number] = evidence[number] + np.logaddexp(stop[number], reached)
    return total


def _shifted_sum(line: Rows, steps: NDArray[np.int64], cost: Rows) -> Rows:
    """Log of the sum over steps of ``line`` moved up by a step at its cost."""
    padded = np.concatenate([np.full(steps[-1], -np.inf), line])
    moved = np.stack([padded[steps[-1] - step : len(padded) - step] for step in steps])
    weighted = moved + cost[:, None]
    peak = np.maximum(weighted.max(axis=0), _LEAST_LOG * 1e3)
    summed: Rows = np.log(np.exp(weighted - peak).sum(axis=0) + 1e-300) + peak
    return summed


def _refined(strength: Rows, row: int) -> float:
    """Centre of gravity of the strength close to a maximum."""
    low, high = max(row - 2, 0), min(row + 3, len(strength))
    weights = strength[low:high] + 1e-6
    return float(np.arange(low, high) @ weights / weights.sum())
