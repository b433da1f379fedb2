"""Keep the audit trail: every message is on disk before anybody is asked to take it.

Any process of the node records; ``psoas serve`` passes the messages on, oldest first, and deletes
what was taken. An outage of the repository leaves them waiting here, a full disk in a reserve.
"""

import getpass
import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, Self

import structlog

from dicom_node.audit_events import Deed, User, UserAction, user_action
from dicom_node.audit_messages import AuditMessage, Outcome
from dicom_node.audit_reserve import AuditReserve
from dicom_node.config import NodeSettings
from dicom_node.errors import AuditError

logger = structlog.get_logger(__name__)

# PS3.15 A.6: facility 10 (security), severity notice or warning.
_NOTICE: Final = 10 * 8 + 5
_WARNING: Final = 10 * 8 + 4
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"  # says that the message is UTF-8 (RFC 5424 6.4)
_AT_ONCE: Final = 500
_PERIOD_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0


class Sink(Protocol):
    """Takes messages for good."""

    def write(self, messages: Sequence[bytes]) -> None:
        """Take messages of RFC 5424; when this returns they may be forgotten here.

        Raises
        ------
        AuditError
            They were not taken, or perhaps not all of them.
        """


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """Messages that wait to be passed on, one file each.

    Parameters
    ----------
    folder : Path
        Private to the user.
    source_id : str
        AuditSourceID of PS3.15 A.5.
    ae_title : str
        Of this node.
    """

    folder: Path
    source_id: str
    ae_title: str

    @classmethod
    def of(cls, settings: NodeSettings) -> Self:
        """Give the trail of a node with these settings."""
        folder = settings.storage.folder / "audit" / "waiting"
        return cls(folder, settings.audit.source_id, settings.listener.ae_title)

    @property
    def reserve(self) -> AuditReserve:
        """Room for messages that the disk has none for."""
        return AuditReserve(self.folder.parent / "reserve")

    def prepare(self) -> None:
        """Make folders and reserve while there is room.

        Raises
        ------
        AuditError
            They cannot be written.
        """
        try:
            self._make_folder()
            self.reserve.prepare()
        except OSError as error:
            raise AuditError(f"{self.folder} cannot be written: {error.strerror}") from None

    def record(self, message: AuditMessage) -> None:
        """Keep a message, in the reserve when the disk has no room for it.

        Raises
        ------
        AuditError
            It cannot be written.
        """
        severity = _NOTICE if message.outcome is Outcome.SUCCESS else _WARNING
        text = syslog_message(message.to_xml(self.source_id), message.at, severity)
        name = f"{message.at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}"
        try:
            self._make_folder()
            _write_private(self.folder / f"{name}.msg", text)
        except OSError as error:
            if not self._is_in_reserve(name, text):
                raise AuditError(f"{self.folder} cannot be written: {error.strerror}") from None

    def note(self, message: AuditMessage) -> None:
        """Keep a message where failing to do so must not stop the work that it tells of."""
        try:
            self.record(message)
        except AuditError as error:
            event = message.event.meaning
            logger.warning("audit message lost", code=error.code, error=str(error), event_id=event)

    def forward(self, sink: Sink) -> int:
        """Pass on what waits, oldest first; return how many messages.

        Raises
        ------
        AuditError
            What was not taken waits on.
        """
        reserve = self.reserve
        try:
            paths = sorted(self.folder.glob("*.msg"))[:_AT_ONCE]
            kept = reserve.kept()
            named = [(path.stem, path.read_bytes()) for path in paths]
            # Names begin with the time.
            sink.write([message for _, message in sorted([*named, *kept.values()])])
            for path in paths:
                path.unlink(missing_ok=True)
            reserve.clear(kept)
        except OSError as error:
            raise AuditError(f"{self.folder} cannot be read: {error.strerror}") from None
        return len(named) + len(kept)

    def waiting(self) -> int:
        """How many messages wait."""
        return sum(1 for _ in self.folder.glob("*.msg")) + len(self.reserve.kept())

    def _make_folder(self) -> None:
        # One after the other: the mode is not for parents that are made on the way.
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def _is_in_reserve(self, name: str, text: bytes) -> bool:
        try:
            return self.reserve.keep(name, text)
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class DailyFiles:
    """A file for each day, one message a line.

    Parameters
    ----------
    folder : Path
    keep_days : int
        Older files are deleted.
    clock : callable
        Returns the time, in UTC.
    """

    folder: Path
    keep_days: int
    clock: Callable[[], datetime]

    def write(self, messages: Sequence[bytes]) -> None:
        """Append messages to today's file, flushed to disk; see ``Sink``."""
        if not messages:
            return
        today = self.clock().date()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.folder / f"audit-{today.isoformat()}.log"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.writelines(message + b"\n" for message in messages)
                file.flush()
                os.fsync(file.fileno())
            oldest = (today - timedelta(days=self.keep_days)).isoformat()
            for old in self.folder.glob("audit-????-??-??.log"):
                if old.stem.removeprefix("audit-") < oldest:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise AuditError(f"{self.folder} cannot be written: {error.strerror}") from None


def record_user_action(
    settings: NodeSettings,
    user: User,
    action: UserAction,
    studies: Sequence[str] = (),
    *,
    succeeded: bool = True,
    description: str = "",
) -> None:
    """Record what a person did at the console or the command line.

    Parameters
    ----------
    settings : NodeSettings
    user : User
        ``local_user()`` at the command line.
    action : UserAction
    studies : sequence of str
        Study Instance UIDs that it was done to.
    succeeded : bool
        ``False`` also for what the person was not allowed to do.
    description : str
        One sentence without values of the patient.

    Raises
    ------
    AuditError
        It cannot be recorded, so it must not be done.
    """
    trail = AuditTrail.of(settings)
    deed = Deed(user, action, studies, succeeded, description)
    trail.record(user_action(trail.ae_title, datetime.now(UTC), deed))


def audit_command(settings: NodeSettings, description: str) -> None:
    """Record that a person told the whole node something, before it is done.

    Raises
    ------
    AuditError
        It cannot be recorded, so it must not be done.
    """
    user = local_user()
    record_user_action(settings, user, UserAction.CONFIGURED, description=description)


def local_user() -> User:
    """Return who runs this process."""
    try:
        return User(getpass.getuser())
    except (OSError, KeyError):  # a container need not know its own user
        return User(f"uid {os.getuid()}")


def keep_forwarding(
    trail: AuditTrail, sink: Sink, stop: threading.Event, prepare: Callable[[], None]
) -> None:
    """Pass messages on until ``stop`` is set, and what waits then once more; for a thread.

    Parameters
    ----------
    trail : AuditTrail
    sink : Sink
    stop : threading.Event
    prepare : callable
        Called each time before messages are passed on.
    """
    pause_s, complaint, last = _PERIOD_S, "", False
    while not last:
        last = stop.wait(pause_s)
        prepare()
        fault = _fault_of_forwarding(trail, sink)
        # A repository that is away is asked less and less often.
        pause_s = min(pause_s * 2.0, _LONGEST_PAUSE_S) if fault else _PERIOD_S
        if fault and fault != complaint:
            waiting = trail.waiting()
            logger.warning(
                "audit messages wait", code=AuditError.code, error=fault, waiting=waiting
            )
        complaint = fault


def syslog_message(xml: bytes, at: datetime, priority: int) -> bytes:
    """Wrap an audit message as RFC 5424 and PS3.15 A.6 ask.

    Parameters
    ----------
    xml : bytes
        UTF-8.
    at : datetime
        In UTC.
    priority : int
        Facility times eight plus severity.
    """
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname() or "-"
    header = f"<{priority}>1 {time} {host} psoas {os.getpid()} DICOM+RFC3881 - "
    return header.encode("ascii", "replace") + _BYTE_ORDER_MARK + xml


def _fault_of_forwarding(trail: AuditTrail, sink: Sink) -> str:
    try:
        while trail.forward(sink) >= _AT_ONCE:
            pass
    except AuditError as error:
        return str(error)
    return ""


def _write_private(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
