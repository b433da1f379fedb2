"""Choose the numbers of an axis."""

from math import floor, log10
from typing import Final

_FACTORS: Final = (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)


def readable_range(low: float, high: float, steps: int) -> tuple[float, float]:
    """Widen a range until its steps are numbers that people like to read.

    Parameters
    ----------
    low, high : float
        ``low`` below ``high``.
    steps : int
        Equal steps between the ends.
    """
    power = 10.0 ** floor(log10((high - low) / steps))
    for step in (factor * power for factor in _FACTORS):
        start = floor(low / step) * step
        if start + steps * step >= high:
            return start, start + steps * step
    return low, high
