"""What the benchmarks print is kept, and drawn where a drawing says more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.__main__ import Extent, Report, run
from tests.benchmarks.plots import draw, read_table

INGEST = """\
| receiver | associations | TCP_NODELAY | MB/s (least - most) | CPU s/GiB |
|---|---|---|---|---|
| Psoas | 1 | yes | 146 (93 - 164) | 5.2 |
| Orthanc | 1 | yes | 78 (71 - 89) | 10.6 |
| Psoas | 8 | no | 119 (98 - 131) | 8.1 |"""
SPOOL = """\
| files in the spool | search at start, s | images/s | `where`, ms |
|---|---|---|---|
| 3,000 | 0.01 | 250 | 1.0 |
| 1,000,000 | 0.10 | 240 | 1.1 |"""
LEDGER = """\
| question, ms | 1,000 series | 10,000 series |
|---|---|---|
| one series | 0.2 | 0.3 |
| newest 100 series | 2.1 | 2.2 |"""


def test_a_table_is_read_by_its_heads() -> None:
    rows = read_table(SPOOL.splitlines())
    assert [row["files in the spool"] for row in rows] == ["3,000", "1,000,000"]
    assert rows[1]["images/s"] == "240"


def test_every_receiver_has_bars_where_it_was_measured() -> None:
    figure = draw("ingest", INGEST.splitlines())
    assert figure is not None
    with_nodelay, without, cpu = figure.axes
    assert [bar.get_height() for bar in with_nodelay.patches] == [146, 78]
    assert [bar.get_height() for bar in without.patches] == [119]
    assert [bar.get_height() for bar in cpu.patches] == [5.2, 10.6]
    assert [list(line.get_ydata()) for line in without.lines] == [[98, 131]]


def test_growth_is_drawn_over_what_grows() -> None:
    figure = draw("spool", SPOOL.splitlines())
    assert figure is not None
    (rates,) = figure.axes[1].lines
    assert list(rates.get_xdata()) == [3_000, 1_000_000]
    assert list(rates.get_ydata()) == [250, 240]


def test_each_question_is_a_line() -> None:
    figure = draw("ledger", LEDGER.splitlines())
    assert figure is not None
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert drawn == {"one series": [0.2, 0.3], "newest 100 series": [2.1, 2.2]}


def test_some_tables_are_read_sooner_than_drawn() -> None:
    assert draw("start", ["| part |", "|---|", "| listener |"]) is None


def test_what_is_printed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spool(_extent: Extent, _folder: Path) -> Iterator[str]:
        yield from SPOOL.splitlines()

    monkeypatch.setitem(benchmarks.BENCHMARKS, "spool", spool)
    run(["spool"], Extent(), Report(tmp_path / "out"))
    kept = (tmp_path / "out" / "benchmarks.md").read_text()
    assert kept == capsys.readouterr().out
    assert SPOOL in kept
    assert (tmp_path / "out" / "spool.svg").exists()


def test_nothing_is_kept_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        benchmarks.BENCHMARKS, "spool", lambda _extent, _folder: iter(SPOOL.splitlines())
    )
    run(["spool"], Extent(), Report(None))
    assert not list(tmp_path.iterdir())
