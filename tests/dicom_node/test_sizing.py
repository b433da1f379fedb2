"""The sizing table is arithmetic on measured figures, and the manual shows what it gives."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.sizing import GROUPS, Hospital, Measured, Policy, need, table

# 1,000 images of 1 MiB a day, all in one hour, half of a core allowed.
ROUND = Hospital(10, 10, 10, 1.0, 1, busiest_hour=1.0)
COSTS = Measured(
    ingest_cpu_s_per_gib=3600 * 1.024,
    listener_mib_per_s=1.0,
    work_cpu_s_per_series=720,
    ledger_bytes_per_image=2**20,
)


def test_the_arithmetic_is_right() -> None:
    found = need(2, ROUND, COSTS, Policy(load=0.5, images_days=4))
    assert found.gib_per_day == pytest.approx(2000 / 1024)
    assert found.peak_mib_per_s == pytest.approx(2000 / 3600)
    assert found.link_mbit_per_s == pytest.approx(2000 / 3600 * 8.388608 * 2)
    assert found.listeners == 2 + 1  # 1.1 of them, and one that may fail
    assert found.ingest_cores == 4  # 2 seconds of work a second
    assert found.work_cores == 8  # 20 series of 720 s in an hour: 4 seconds a second
    assert found.spool_tib == pytest.approx(8000 / 1024 / 1024)
    assert found.ledger_gib == pytest.approx(8000 / 1024)


def test_nobody_needs_less_than_one_of_each() -> None:
    found = need(1, Hospital(studies_per_day=1), Measured(), Policy())
    assert (found.listeners, found.ingest_cores, found.work_cores) == (1, 1, 1)


def test_twice_the_hospitals_need_twice_the_disk() -> None:
    one, two = (need(count, Hospital(), Measured(), Policy()) for count in (10, 20))
    assert two.spool_tib == pytest.approx(2 * one.spool_tib)
    assert two.work_cores <= 2 * one.work_cores


def test_the_manual_shows_the_table_of_today(repository: Path) -> None:
    manual = (repository / "deploy" / "README.md").read_text()
    rows = [need(count, Hospital(), Measured(), Policy()) for count in GROUPS]
    assert "\n".join(table(rows)) in manual


def test_the_command_takes_the_figures_of_a_site(
    psoas: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("size", "--hospitals", 3, "--work-cpu-s", 3600, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["hospitals"] == 3
    assert found["work_cores"] == 72  # 36 series of an hour of work each
