"""Fixtures for the tests of the node."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.cli import main

Psoas = Callable[..., int]

_DEADLINE_S = 60.0


@pytest.fixture
def soon() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds that another thread brings about."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)

    return wait


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text('[storage]\nfolder = "node"\nfree_space_watermark_mib = 0\n')
    return path


@pytest.fixture
def psoas(monkeypatch: pytest.MonkeyPatch, config: Path) -> Psoas:
    """Run a command with the settings of ``config``; return its exit status."""
    monkeypatch.setenv("PSOAS_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["psoas", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run
