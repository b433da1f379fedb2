"""Notice when somebody sets the clock, so that nothing waits an hour or gives up a day early."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from dicom_node.ledger import Ledger

logger = structlog.get_logger(__name__)

CLOCK_STEPPED: Final = "CLOCK_STEPPED"
"""Code of the alarm about a clock that was set."""

_TOLERANCE_S: Final = 5.0
"""Time services slew smaller differences; a busy machine shows some too."""


class ClockWatch:
    """Compares the clock of the wall with one that nobody can set.

    Parameters
    ----------
    ledger : Ledger
    monotonic : callable, optional
        Seconds that only ever grow.
    """

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None

    def look(self, now: datetime) -> None:
        """Move the times of the ledger when the clock has stepped since the last look.

        Raises
        ------
        LedgerError
        """
        elapsed_s = self._monotonic()
        if self._last is not None:
            step = now - self._last[0] - timedelta(seconds=elapsed_s - self._last[1])
            if abs(step.total_seconds()) > _TOLERANCE_S:
                self._follow(step, now)
        self._last = (now, elapsed_s)

    def _follow(self, step: timedelta, now: datetime) -> None:
        message = (
            f"the clock stepped by {step.total_seconds():+.0f} s; what waits was moved with it"
        )
        self._ledger.shift_times(step)
        self._ledger.alarms.raise_(CLOCK_STEPPED, "clock", message, now)
        logger.warning("clock stepped", step_s=round(step.total_seconds()))
