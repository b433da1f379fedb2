"""Find what a person should look at before anybody misses a result."""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from cryptography.x509 import load_pem_x509_certificate

from dicom_node.config import AlarmSettings, NodeSettings
from dicom_node.ledger import Ledger
from dicom_node.ledger_activity import Backlog, deliveries_under_way, last_images
from dicom_node.records import SeriesState

SOURCE_SILENT: Final = "SOURCE_SILENT"
PACS_REFUSES: Final = "PACS_REFUSES"
DISK_FULL: Final = "DISK_FULL"
CERTIFICATE_EXPIRES: Final = "CERTIFICATE_EXPIRES"
SERIES_QUARANTINED: Final = "SERIES_QUARANTINED"

WATCHED: Final = frozenset(
    {SOURCE_SILENT, PACS_REFUSES, DISK_FULL, CERTIFICATE_EXPIRES, SERIES_QUARANTINED}
)
"""Codes that are raised and cleared here; the ledger raises others itself."""

_MIB: Final = 2**20
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS: Final = re.compile(r"(\w{3})-(\w{3}) (\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now.

    Parameters
    ----------
    code : str
        Stable.
    subject : str
        What it is about; with the code it tells one alarm from another.
    message : str
        One sentence.
    """

    code: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """When scanners are expected to send.

    Parameters
    ----------
    days : frozenset of int
        Monday is 0.
    begin, end : time
    zone : ZoneInfo
    """

    days: frozenset[int]
    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def of(cls, settings: AlarmSettings) -> "WorkingHours":
        """Read the hours of the settings, which have checked their form."""
        found = _HOURS.fullmatch(settings.working_hours)
        assert found is not None  # noqa: S101 - checked by the settings
        first, last = (_DAYS.index(day.lower()) for day in found.group(1, 2))
        days = frozenset((first + n) % 7 for n in range((last - first) % 7 + 1))
        numbers = [int(number) for number in found.group(3, 4, 5, 6)]
        begin, end = time(numbers[0], numbers[1]), time(numbers[2], numbers[3])
        return cls(days, begin, end, ZoneInfo(settings.time_zone))

    def since(self, now: datetime) -> datetime | None:
        """Return when the work of this day began; ``None`` outside working hours."""
        here = now.astimezone(self.zone)
        if here.weekday() not in self.days or not self.begin <= here.time() < self.end:
            return None
        return here.replace(hour=self.begin.hour, minute=self.begin.minute, second=0, microsecond=0)


def conditions(settings: NodeSettings, ledger: Ledger, now: datetime) -> tuple[Condition, ...]:
    """Return everything that is wrong.

    Raises
    ------
    LedgerError
    """
    last = ledger.read(partial(last_images, sources=[one.ae_title for one in settings.sources]))
    folder = settings.storage.folder
    return (
        *silent_sources(last, settings.alarms, now),
        *refusing_destinations(ledger.read(deliveries_under_way), settings.alarms, now),
        *full_disk(shutil.disk_usage(folder).free // _MIB, settings.alarms),
        *expiring_certificates(certificate_files(settings), settings.alarms, now),
        *quarantined(ledger.counts().get(SeriesState.QUARANTINED, 0)),
    )


def silent_sources(
    last: Mapping[str, datetime], settings: AlarmSettings, now: datetime
) -> Iterator[Condition]:
    """Find scanners that sent nothing for too long in their working hours.

    Parameters
    ----------
    last : mapping of str to datetime
        Last image of each source that has ever sent one.
    settings : AlarmSettings
    now : datetime
    """
    began_at = WorkingHours.of(settings).since(now)
    if began_at is None:
        return
    longest = timedelta(seconds=settings.silence_s)
    for source, at in last.items():
        if now - max(at, began_at) >= longest:
            yield Condition(
                SOURCE_SILENT, source, f"{source} has sent nothing since {at:%Y-%m-%d %H:%M} UTC"
            )


def refusing_destinations(
    backlogs: Iterable[Backlog], settings: AlarmSettings, now: datetime
) -> Iterator[Condition]:
    """Find PACS for which results have waited too long."""
    longest = timedelta(seconds=settings.delivery_age_s)
    waiting: dict[str, tuple[int, datetime]] = {}
    for one in backlogs:
        if one.state != "dead" and now - one.oldest_at >= longest:
            count, oldest = waiting.get(one.destination, (0, one.oldest_at))
            waiting[one.destination] = count + one.count, min(oldest, one.oldest_at)
    for destination, (count, oldest) in waiting.items():
        yield Condition(
            PACS_REFUSES,
            destination,
            f"{destination} has not taken {count} results, the oldest since "
            f"{oldest:%Y-%m-%d %H:%M} UTC",
        )


def full_disk(free_mib: int, settings: AlarmSettings) -> Iterator[Condition]:
    """Find out whether the volume of the spool is nearly full."""
    if free_mib < settings.free_space_mib:
        yield Condition(DISK_FULL, "spool", f"the volume of the spool has {free_mib} MiB free")


def expiring_certificates(
    files: Iterable[Path], settings: AlarmSettings, now: datetime
) -> Iterator[Condition]:
    """Find certificates that are about to expire, or have."""
    for path in files:
        expires_at = certificate_expiry(path)
        if expires_at is None:
            yield Condition(CERTIFICATE_EXPIRES, path.name, f"{path.name} cannot be read")
            continue
        days = (expires_at - now).total_seconds() / 86_400
        if days < settings.certificate_days:
            when = f"expires in {days:.0f} days" if days >= 0 else "has expired"
            message = f"certificate {path.name} {when} ({expires_at:%Y-%m-%d})"
            yield Condition(CERTIFICATE_EXPIRES, path.name, message)


def quarantined(count: int) -> Iterator[Condition]:
    """Find out whether series wait for a person."""
    if count:
        message = f"{count} series are quarantined: a person has to look at them"
        yield Condition(SERIES_QUARANTINED, "node", message)


def certificate_files(settings: NodeSettings) -> tuple[Path, ...]:
    """Certificates that the settings name."""
    of_console = settings.console.tls_certificate
    named = [] if of_console is None else [of_console]
    if settings.tls is not None:
        named += [settings.tls.certificate, settings.tls.authorities]
    return tuple(dict.fromkeys(named))


def certificate_expiry(path: Path) -> datetime | None:
    """When a certificate in PEM expires; ``None`` when it cannot be read."""
    try:
        return load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
