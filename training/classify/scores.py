"""Sensitivity and its kin, with exact intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many patients were called what.

    Parameters
    ----------
    found, overlooked : int
        Patients with low muscle, called low and not low.
    cleared, alarmed : int
        Patients without, called not low and low.
    """

    found: int
    overlooked: int
    cleared: int
    alarmed: int

    @property
    def sensitivity(self) -> float:
        """Share of patients with low muscle that are called low; NaN without any."""
        return _share(self.found, self.found + self.overlooked)

    @property
    def specificity(self) -> float:
        """Share of patients without that are called not low; NaN without any."""
        return _share(self.cleared, self.cleared + self.alarmed)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the two, whatever the numbers of patients."""
        return (self.sensitivity + self.specificity) / 2


def confusion(low: NDArray[np.bool_], called: NDArray[np.bool_]) -> Confusion:
    """Count patients by what they are and what they are called."""
    return Confusion(
        int((low & called).sum()),
        int((low & ~called).sum()),
        int((~low & ~called).sum()),
        int((~low & called).sum()),
    )


def balanced_accuracy(low: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Mean of sensitivity and specificity; of the one that there is, when a class has nobody."""
    counted = confusion(low, called)
    shares = [counted.sensitivity, counted.specificity]
    return float(np.mean([share for share in shares if not np.isnan(share)]))


def area_under_curve(low: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    """Chance that somebody with low muscle has a higher probability than somebody without.

    Ties count half (Mann and Whitney); 0.5 when a class has nobody.
    """
    positive, negative = probability[low], probability[~low]
    if not len(positive) or not len(negative):
        return 0.5
    difference = positive[:, None] - negative[None]
    return float(np.mean(np.where(difference == 0, 0.5, difference > 0)))


def exact_interval(hits: int, of: int, coverage: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share; (0, 1) of nobody."""
    tail = (1 - coverage) / 2
    low = float(beta.ppf(tail, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, of - hits)) if hits < of else 1.0
    return low, high


def choose_threshold(
    low: NDArray[np.bool_], probability: NDArray[np.float64], sensitivity: float
) -> float:
    """Choose the largest threshold that keeps a sensitivity; 0.5 when nobody has low muscle.

    Parameters
    ----------
    low : NDArray[np.bool_]
    probability : NDArray[np.float64]
    sensitivity : float
        At least so large a share of those with low muscle is called low.
    """
    positive = np.sort(probability[low])[::-1]
    if not len(positive):
        return 0.5
    needed = int(np.ceil(sensitivity * len(positive) - 1e-9))
    return float(np.clip(positive[max(needed, 1) - 1], 0.01, 0.99))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def percent(hits: int, of: int) -> str:
    """Show a share in percent with its exact interval."""
    if not of:
        return "nobody"
    low, high = exact_interval(hits, of)
    return f"{100 * hits / of:.0f} % ({hits} of {of}; {100 * low:.0f} to {100 * high:.0f})"
