"""Keep what came of each series, for trends, and when each peer was last verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from dicom_node.database import Database
from dicom_node.schema import ECHO, FINDING, SERIES


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one series.

    Parameters
    ----------
    kind : str
        ``measured``, ``skipped``, ``failed`` or ``quarantined``.
    code : str or None
        Why there is no measurement.
    muscle_cm2 : float or None
        Area of skeletal muscle in square centimetres.
    """

    kind: str
    code: str | None = None
    muscle_cm2: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the series of one source in one month.

    Parameters
    ----------
    month : str
        As 2026-01, in UTC.
    source_ae_title, kind : str
    count : int
    mean_cm2 : float or None
        Of the measured ones.
    """

    month: str
    source_ae_title: str
    kind: str
    count: int
    mean_cm2: float | None


@dataclass(frozen=True, slots=True)
class Echo:
    """The last verification of a peer.

    Parameters
    ----------
    at : datetime
    complaint : str
        Empty when it answered.
    """

    at: datetime
    complaint: str


class Findings:
    """What came of series, and of verifying peers.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, series_instance_uid: str, finding: Finding, at: datetime) -> None:
        """Note what came of a series; a later revision replaces it."""

        def write(connection: Connection) -> None:
            of_series = FINDING.c.series_instance_uid == series_instance_uid
            connection.execute(delete(FINDING).where(of_series))
            source = select(SERIES.c.source_ae_title).where(
                SERIES.c.series_instance_uid == series_instance_uid
            )
            connection.execute(
                insert(FINDING).values(
                    series_instance_uid=series_instance_uid,
                    month=f"{at:%Y-%m}",
                    source_ae_title=connection.execute(source).scalar_one(),
                    kind=finding.kind,
                    code=finding.code,
                    muscle_cm2=finding.muscle_cm2,
                )
            )

        self._database.write(write)

    def of(self, series_instance_uid: str) -> Finding | None:
        """Return what came of a series; ``None`` when it was not analysed."""
        query = select(FINDING).where(FINDING.c.series_instance_uid == series_instance_uid)
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else Finding(row.kind, row.code, row.muscle_cm2)

    def record_echo(self, peer: str, at: datetime, complaint: str) -> None:
        """Note that a peer was verified, or did not answer."""

        def write(connection: Connection) -> None:
            connection.execute(delete(ECHO).where(ECHO.c.peer == peer))
            connection.execute(insert(ECHO).values(peer=peer, at=at, complaint=complaint))

        self._database.write(write)

    def echoes(self) -> Mapping[str, Echo]:
        """Return the last verification of each peer."""
        return self._database.read(
            lambda connection: {
                row.peer: Echo(row.at, row.complaint) for row in connection.execute(select(ECHO))
            }
        )


def tallies(connection: Connection, since_month: str) -> tuple[Tally, ...]:
    """Count what came of series by month, source and kind, the first month first."""
    key = FINDING.c.month, FINDING.c.source_ae_title, FINDING.c.kind
    query = (
        select(*key, func.count(), func.avg(FINDING.c.muscle_cm2))
        .where(FINDING.c.month >= since_month)
        .group_by(*key)
        .order_by(*key)
    )
    return tuple(Tally(*row) for row in connection.execute(query))
