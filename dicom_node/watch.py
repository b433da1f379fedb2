"""Look for alarms again and again, keep them in the ledger, tell people of each once."""

import fcntl
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from dicom_node.alarm_channels import Channel, News, channels
from dicom_node.alarms import WATCHED, conditions
from dicom_node.checks import echo_of
from dicom_node.config import NodeSettings
from dicom_node.errors import NodeError
from dicom_node.ledger import Ledger

logger = structlog.get_logger(__name__)

_PERIOD_S: Final = 30.0
_TURNS_TO_VERIFY: Final = 10


class Watch:
    """One look at everything, and what follows from it.

    Parameters
    ----------
    settings : NodeSettings
    ledger : Ledger
    tell : mapping of str to Channel, optional
        Those of the settings when absent.
    """

    def __init__(
        self, settings: NodeSettings, ledger: Ledger, tell: Mapping[str, Channel] | None = None
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._channels = channels(settings.alarms) if tell is None else tell
        self._folder = settings.storage.folder

    def look(self, now: datetime) -> None:
        """Raise what is wrong, clear what is over, tell people of both.

        Raises
        ------
        LedgerError
        """
        found = {
            (one.code, one.subject): one for one in conditions(self._settings, self._ledger, now)
        }
        standing = {(one.code, one.subject) for one in self._ledger.alarms.standing()}
        for key, one in found.items():
            if key not in standing:
                self._ledger.alarms.raise_(one.code, one.subject, one.message, now)
                logger.warning("alarm", code=one.code, subject=one.subject, message=one.message)
        for code, subject in standing - set(found):
            if code in WATCHED:
                self._ledger.alarms.clear(code, subject, now)
                logger.info("alarm over", code=code, subject=subject)
        for name, channel in self._channels.items():
            self._tell(name, channel)

    def verify(self, now: datetime) -> None:
        """Echo every destination, and note which ones answer.

        Raises
        ------
        LedgerError
        """
        for destination in self._settings.destinations:
            if destination.web is not None:
                continue  # DICOMweb has nothing like C-ECHO
            attempt = echo_of(destination, self._settings)
            try:
                attempt()
                complaint = ""
            except NodeError as error:
                complaint = str(error)
            self._ledger.findings.record_echo(destination.name, now, complaint)

    def _tell(self, name: str, channel: Channel) -> None:
        """Tell one channel what it has not been told; on failure all of it comes again."""
        with _told(self._folder / f"alarms-{name}.json") as told:
            standing = {
                f"{one.code} {one.subject.replace(' ', '_')} {one.raised_at.isoformat()}": one
                for one in self._ledger.alarms.standing()
            }
            news = {
                key: News(one.code, one.subject, one.message, is_over=False)
                for key, one in standing.items()
                if key not in told
            }
            ended = [_over(key, message) for key, message in told.items() if key not in standing]
            if not news and not ended:
                return
            try:
                channel(self._settings.listener.ae_title, [*news.values(), *ended])
            except NodeError as error:
                logger.warning("alarm not told", channel=name, code=error.code, error=str(error))
                return
            told.clear()
            told.update({key: one.message for key, one in standing.items()})


@contextmanager
def watching(
    settings: NodeSettings, ledger: Ledger, clock: Callable[[], datetime]
) -> Iterator[None]:
    """Look again and again, in a thread of its own."""
    watch, stop = Watch(settings, ledger), threading.Event()

    def run() -> None:
        for turn in itertools.count():
            try:
                watch.look(clock())
                if turn % _TURNS_TO_VERIFY == 0:
                    watch.verify(clock())
            except (NodeError, OSError) as error:
                logger.warning("watch fails", error=str(error))
            if stop.wait(_PERIOD_S):
                return

    thread = threading.Thread(target=run, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _over(key: str, message: str) -> News:
    code, subject, _raised_at = key.split(" ", 2)
    return News(code, subject, message, is_over=True)


@contextmanager
def _told(path: Path) -> Iterator[dict[str, str]]:
    """Yield what a channel was told; several listeners of one folder tell it once all the same."""
    with path.open("a+") as file:
        path.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        told: dict[str, str] = json.loads(file.read() or "{}")
        before = dict(told)
        yield told
        if told != before:
            file.truncate(0)
            json.dump(told, file)
