"""Fixtures for every test: tools that are not Python packages."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from pynetdicom.transport import AssociationSocket

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that need long, so that no process works alone at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    whole = {path for path in long if path.is_relative_to(REPOSITORY / "tests" / "system")}
    # Stable: the order that pytest-randomly drew holds among equals.
    items.sort(key=lambda item: (item.path not in whole, item.path not in long))


@pytest.fixture(autouse=True, scope="session")
def _close_what_peers_reset() -> Iterator[None]:
    """Close every connection of pynetdicom's, also those of the peers that tests play.

    It closes a socket only when it could shut it down, which fails after a reset; what is left to
    the garbage collector then turns whichever test runs next red.
    """
    with pytest.MonkeyPatch.context() as patch:
        shut_down = AssociationSocket._shutdown_socket

        def shut_down_and_close(transport: AssociationSocket) -> None:
            connection = transport.socket
            shut_down(transport)
            if connection is not None:
                connection.close()

        patch.setattr(AssociationSocket, "_shutdown_socket", shut_down_and_close)
        yield


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
