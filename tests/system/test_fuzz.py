"""Broken PDUs and data sets hurt nobody; the long form is ``python -m tests.system.fuzz``."""

import random
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.system.fuzz import Fuzzer, echo, echoing, listener, weigh
from tests.system.mutations import mutated

pytestmark = [pytest.mark.network, pytest.mark.slow]

INPUTS = 150


Running = tuple["subprocess.Popen[str]", int]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with listener(tmp_path_factory.mktemp("node")) as (process, port):
        yield process, port
        assert process.poll() is None, "the listener died"


def test_broken_inputs_leave_the_listener_well_and_the_scanner_served(running: Running) -> None:
    process, port = running
    fuzzer = Fuzzer(port, random.Random(11))  # noqa: S311 - no secret
    with echoing(port, fuzzer.findings):
        fuzzer.run(INPUTS)
    weigh(process, fuzzer.findings)
    assert sum(fuzzer.findings.answers.values()) == INPUTS
    assert fuzzer.findings.faults == []


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=600))
def test_no_bytes_keep_a_connection_open(running: Running, content: bytes) -> None:
    _, port = running
    Fuzzer(port, random.Random(0)).converse(content)  # noqa: S311 - no secret
    assert echo(port) > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_breaks_the_same_bytes(seed: int) -> None:
    content = bytes(range(256))
    first = mutated(random.Random(seed), content)  # noqa: S311 - no secret
    assert first == mutated(random.Random(seed), content)  # noqa: S311 - no secret
    assert first != content
