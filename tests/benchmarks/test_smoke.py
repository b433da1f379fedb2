"""Every benchmark runs; nothing is timed."""

from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BENCHMARKS, Extent

SMALL = Extent(
    rounds=1,
    images=20,
    associations=(2,),
    series=(50,),
    files=(300,),
    many_associations=(1, 3),
    many_slices=(20,),
    whole_series=1,
    workers=(2,),
    patch_cells=64,
    compiling=False,
)

pytestmark = [pytest.mark.network, pytest.mark.redis, pytest.mark.slow]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_gives_a_table(name: str, tmp_path: Path) -> None:
    lines = list(BENCHMARKS[name](SMALL, tmp_path))
    assert len(lines) >= 3
    assert all(line.startswith("|") and line.endswith("|") for line in lines)
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
