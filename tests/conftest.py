"""Fixtures for every test: tools that are not Python packages."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


def missing(message: str) -> NoReturn:
    """Fail in CI, say on a desk why a test is skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def find_tool(name: str) -> str:
    """Path of a program."""
    # Some come as wheels, beside the interpreter; Debian keeps Orthanc where root looks.
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        missing(f"{name} is not installed; tests/run.sh installs it")
    return path


@pytest.fixture
def tool() -> Callable[[str], str]:
    """Path of a program; without it a test fails in CI and says on a desk why it is skipped."""
    return find_tool


@pytest.fixture
def demo_series() -> Path:
    """The bundled CT: 20 axial slices, L3 at index 9 from below."""
    return REPOSITORY / "dicom_node" / "demo" / "ct"
