"""Fixtures for system tests: one running node for all of them, a fresh series for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running_node import RunningNode, renewed_series, running_node


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def node(shared_node: RunningNode) -> RunningNode:
    """The node with nothing broken and a PACS that holds nothing and refuses nothing."""
    # What an earlier test left on its way would reach this one's PACS.
    shared_node.wait_until_idle()
    shared_node.pacs.received.clear()
    shared_node.pacs.attempts.clear()
    shared_node.pacs.refused = set()
    return shared_node


@pytest.fixture
def series(demo_series: Path, tmp_path: Path) -> Path:
    """A real CT series that nobody has sent before."""
    return renewed_series(demo_series, tmp_path / "series")
