"""Fixtures for the tests of the node."""

import time
from collections.abc import Callable

import pytest

_DEADLINE_S = 10.0


@pytest.fixture
def soon() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds that another thread brings about."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)

    return wait
