"""How a node bears a spool of many files: its start, its receiving, its answers."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from sqlalchemy import Connection, insert

from dicom_node.administration import whereabouts
from dicom_node.config import NodeSettings
from dicom_node.database import Database
from dicom_node.ledger import Ledger
from dicom_node.ledger_steps import instance_values
from dicom_node.recovery import Recovery
from dicom_node.schema import INSTANCE, SERIES
from dicom_node.spool import Spool
from dicom_node.spool_paths import instance_path
from tests.benchmarks.ingest import Trial, send
from tests.benchmarks.ledger_growth import NOW, series_row
from tests.dicom_node.factories import instance, node_settings

_IMAGES_OF_A_SERIES = 300
_SERIES_AT_ONCE = 50
_REPEATS = 5
_OLD = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class SpoolTimes:
    """What a spool of one size costs.

    Parameters
    ----------
    recovery_s : float
        Of the look for what the ledger does not name, at the start of a listener.
    images_per_s : float
        Received over one association.
    where_ms : float
        Of the answer to where one of the series is.
    """

    recovery_s: float
    images_per_s: float
    where_ms: float


def run_spool(folder: Path, files: int, images: Sequence[Path]) -> SpoolTimes:
    """Fill spool and ledger with delivered series, then start, ask and send."""
    folder.mkdir()
    settings = node_settings(folder)
    _fill(settings, files)
    os.sync()
    spool = Spool.of(settings.storage)
    with closing(spool), closing(Ledger.open(settings.ledger_url)) as ledger:
        start = time.perf_counter()
        recovered = Recovery(settings, ledger, spool).run()
        recovery_s = time.perf_counter() - start
        where_ms = _where_ms(ledger, spool)
    if recovered:
        raise RuntimeError("the ledger did not name every file")
    cost = send(Trial("Psoas", associations=1, nodelay=True), images, folder)
    return SpoolTimes(recovery_s, len(images) / cost.wall_s, where_ms)


def spool_table(results: dict[int, SpoolTimes]) -> Iterator[str]:
    """The times as rows of a Markdown table."""
    yield "| files in the spool | search at start, s | images/s | `where`, ms |"
    yield "|---|---|---|---|"
    for files, times in results.items():
        yield (
            f"| {files:,} | {times.recovery_s:.2f} | {times.images_per_s:.0f} "
            f"| {times.where_ms:.1f} |"
        )


def _where_ms(ledger: Ledger, spool: Spool) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        found = whereabouts("1.2.0", ledger, spool)
        times.append((time.perf_counter() - start) * 1e3)
        if not found:
            raise RuntimeError("the ledger does not know the series")
    return median(times)


def _fill(settings: NodeSettings, files: int) -> None:
    """Make empty files: nobody reads one that the ledger names."""
    spool = Spool.of(settings.storage)
    with closing(spool), closing(Database.open(settings.ledger_url)) as database:
        numbers = range(max(1, files // _IMAGES_OF_A_SERIES))
        for first in numbers[::_SERIES_AT_ONCE]:
            some = numbers[first : first + _SERIES_AT_ONCE]
            rows = [row for number in some for row in _make_series(spool, number)]

            def write(
                connection: Connection,
                series: Sequence[int] = some,
                rows: Sequence[dict[str, object]] = rows,
            ) -> None:
                connection.execute(insert(SERIES), [series_row(number) for number in series])
                connection.execute(insert(INSTANCE), rows)

            database.write(write)


def _make_series(spool: Spool, number: int) -> list[dict[str, object]]:
    uid, at = f"1.2.{number}", NOW - _OLD - timedelta(seconds=number)
    made = [
        instance(
            image,
            sop_instance_uid=f"{uid}.{image}",
            series_instance_uid=uid,
            study_instance_uid=f"1.3.{number}",
            received_at=at,
        )
        for image in range(_IMAGES_OF_A_SERIES)
    ]
    placed = [
        replace(one, path=instance_path(uid, one.sop_instance_uid, one.sha256)) for one in made
    ]
    target = spool.path(placed[0].path.parent)
    target.mkdir(parents=True)
    for one in placed:
        spool.path(one.path).touch()
    # As after days: a start looks at series that changed lately.
    os.utime(target, (at.timestamp(), at.timestamp()))
    return [instance_values(one) for one in placed]
