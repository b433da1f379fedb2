"""What the node raises.

::

    NodeError
    ├── SettingsError             SETTINGS_INVALID
    ├── IllegalTransitionError    TRANSITION_ILLEGAL
    ├── StaleRevisionError        REVISION_STALE
    ├── UnknownSeriesError        SERIES_UNKNOWN
    ├── UnknownModelError         MODEL_UNKNOWN
    ├── LedgerError               LEDGER_UNUSABLE
    ├── SpoolError                SPOOL_UNUSABLE
    ├── SpoolConflictError        INSTANCE_CONFLICT
    ├── BrokerError               BROKER_UNREACHABLE
    ├── PeerError                 PEER_UNREACHABLE
    ├── CommitmentRefusedError    COMMITMENT_REFUSED
    ├── ObjectRefusedError        OBJECT_REFUSED
    ├── UnknownResultError        RESULT_UNKNOWN
    ├── DeviceMemoryError         DEVICE_MEMORY
    ├── WorkerLostError           WORKER_LOST
    ├── ImagesReleasedError       IMAGES_RELEASED
    ├── BackupError               BACKUP_UNUSABLE
    ├── AlarmChannelError         ALARM_NOT_TOLD
    ├── TlsError                  TLS_UNUSABLE
    ├── AuditError                AUDIT_UNWRITTEN
    ├── RulesError                RULES_INVALID
    ├── UnguardedError            ACCESS_UNGUARDED
    └── MissingExtraError         EXTRA_MISSING

Each leaf class has a stable ``code``. Messages quote UIDs, AE titles and numbers, never a
patient's name, ID or birth date.
"""

from typing import ClassVar


class NodeError(Exception):
    """Anything the node refuses or cannot do; ``code`` is stable across versions."""

    code: ClassVar[str]


class SettingsError(NodeError):
    """The settings file is absent, malformed or contradicts itself."""

    code = "SETTINGS_INVALID"


class IllegalTransitionError(NodeError):
    """The life of a series has no such step; see ``records.TRANSITIONS``."""

    code = "TRANSITION_ILLEGAL"


class StaleRevisionError(NodeError):
    """Images came in after this work began, so its outcome no longer describes the series."""

    code = "REVISION_STALE"


class UnknownSeriesError(NodeError):
    """The ledger has no such series."""

    code = "SERIES_UNKNOWN"


class UnknownModelError(NodeError):
    """No such model is installed, or its files are damaged."""

    code = "MODEL_UNKNOWN"


class LedgerError(NodeError):
    """The database of the ledger cannot be opened, read or written."""

    code = "LEDGER_UNUSABLE"


class SpoolError(NodeError):
    """The spool cannot be written, is full or lacks a file that the ledger names."""

    code = "SPOOL_UNUSABLE"


class SpoolConflictError(NodeError):
    """The same SOP Instance UID arrived with other bytes, or a series with two patients."""

    code = "INSTANCE_CONFLICT"


class BrokerError(NodeError):
    """The broker cannot be reached or started."""

    code = "BROKER_UNREACHABLE"


class PeerError(NodeError):
    """A peer cannot be reached, rejects the association or breaks it off."""

    code = "PEER_UNREACHABLE"


class CommitmentRefusedError(NodeError):
    """A peer will not take responsibility for results, however often it is asked."""

    code = "COMMITMENT_REFUSED"


class ObjectRefusedError(NodeError):
    """A PACS does not take an object that it is to get, now or later."""

    code = "OBJECT_REFUSED"


class UnknownResultError(NodeError):
    """A worker left a result of a kind that this version does not know, so that nobody gets it."""

    code = "RESULT_UNKNOWN"


class DeviceMemoryError(NodeError):
    """The compute device ran out of memory."""

    code = "DEVICE_MEMORY"


class WorkerLostError(NodeError):
    """A worker took a series and was not heard of again."""

    code = "WORKER_LOST"


class ImagesReleasedError(NodeError):
    """Retention has let go of the images that are needed."""

    code = "IMAGES_RELEASED"


class BackupError(NodeError):
    """A backup cannot be made or restored."""

    code = "BACKUP_UNUSABLE"


class AlarmChannelError(NodeError):
    """A webhook or mail server does not take alarms."""

    code = "ALARM_NOT_TOLD"


class TlsError(NodeError):
    """Certificate, key or authorities cannot be used, or the certificate has expired."""

    code = "TLS_UNUSABLE"


class AuditError(NodeError):
    """An audit message cannot be kept here or is not taken by its repository."""

    code = "AUDIT_UNWRITTEN"


class RulesError(NodeError):
    """A rule file is absent, malformed or names what the settings do not have."""

    code = "RULES_INVALID"


class UnguardedError(NodeError):
    """Others can reach a part of the node that asks them for no password."""

    code = "ACCESS_UNGUARDED"


class MissingExtraError(NodeError):
    """A command needs packages of an extra that is not installed."""

    code = "EXTRA_MISSING"
