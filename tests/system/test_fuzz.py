"""Broken PDUs and data sets hurt nobody; the long form is ``python -m tests.system.fuzz``."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.system.fuzz import Fuzzer, echo, echoing, listener, weigh
from tests.system.mutations import mutated

pytestmark = [pytest.mark.network, pytest.mark.slow]

INPUTS = 150


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with listener(tmp_path_factory.mktemp("node")) as (process, number):
        yield number
        assert process.poll() is None, "the listener died"


def test_broken_inputs_leave_the_listener_well_and_the_scanner_served(tmp_path: Path) -> None:
    with listener(tmp_path) as (process, port):
        fuzzer = Fuzzer(port, random.Random(11))  # noqa: S311 - no secret
        with echoing(port, fuzzer.findings):
            fuzzer.run(INPUTS)
        weigh(process, fuzzer.findings)
    assert sum(fuzzer.findings.answers.values()) == INPUTS
    assert fuzzer.findings.faults == []


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=600))
def test_no_bytes_keep_a_connection_open(port: int, content: bytes) -> None:
    Fuzzer(port, random.Random(0)).converse(content)  # noqa: S311 - no secret
    assert echo(port) > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_breaks_the_same_bytes(seed: int) -> None:
    content = bytes(range(256))
    first = mutated(random.Random(seed), content)  # noqa: S311 - no secret
    assert first == mutated(random.Random(seed), content)  # noqa: S311 - no secret
    assert first != content
