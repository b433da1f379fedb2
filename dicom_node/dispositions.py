"""What the node does about each error: one table."""

from enum import StrEnum
from typing import Final

from dicom_node import errors as node
from pipeline import errors as pipeline


class Disposition(StrEnum):
    """What becomes of the series."""

    SKIP = "skip"
    """Not one for us: no alarm."""
    QUARANTINE = "quarantine"
    """Contradictory data: kept until a person decides."""
    RETRY = "retry"
    """The moment was wrong: again later."""
    FAIL = "fail"
    """It will fail again: kept, with the reason."""


DISPOSITIONS: Final[dict[type[Exception], Disposition]] = {
    pipeline.NotCTError: Disposition.SKIP,
    pipeline.LocalizerError: Disposition.SKIP,
    pipeline.DerivedImageError: Disposition.SKIP,
    pipeline.TooFewSlicesError: Disposition.SKIP,
    pipeline.NotAxialError: Disposition.SKIP,
    pipeline.LevelNotCoveredError: Disposition.SKIP,
    pipeline.UnreadableFileError: Disposition.QUARANTINE,
    pipeline.PixelDataError: Disposition.QUARANTINE,
    pipeline.MissingAttributeError: Disposition.QUARANTINE,
    pipeline.MixedSeriesError: Disposition.QUARANTINE,
    pipeline.GeometryError: Disposition.QUARANTINE,
    pipeline.LevelUncertainError: Disposition.FAIL,
    pipeline.SliceNotInSeriesError: Disposition.FAIL,
    pipeline.ImplausibleResultError: Disposition.FAIL,
    pipeline.CorrectionError: Disposition.FAIL,
    pipeline.ModelError: Disposition.FAIL,
    pipeline.CutoffProfileError: Disposition.FAIL,
    node.SettingsError: Disposition.FAIL,
    node.IllegalTransitionError: Disposition.FAIL,
    node.StaleRevisionError: Disposition.FAIL,
    node.UnknownSeriesError: Disposition.FAIL,
    node.UnknownModelError: Disposition.FAIL,
    node.LedgerError: Disposition.RETRY,
    node.SpoolError: Disposition.RETRY,
    node.SpoolConflictError: Disposition.QUARANTINE,
    node.BrokerError: Disposition.RETRY,
    node.PeerError: Disposition.RETRY,
    node.CommitmentRefusedError: Disposition.FAIL,
    node.ObjectRefusedError: Disposition.FAIL,
    node.UnknownResultError: Disposition.FAIL,
    node.DeviceMemoryError: Disposition.RETRY,
    node.WorkerLostError: Disposition.RETRY,
    node.ImagesReleasedError: Disposition.FAIL,
    node.BackupError: Disposition.FAIL,
    node.AlarmChannelError: Disposition.RETRY,
    node.TlsError: Disposition.RETRY,
    node.AuditError: Disposition.RETRY,
    node.RulesError: Disposition.FAIL,
    node.UnguardedError: Disposition.FAIL,
    node.MissingExtraError: Disposition.FAIL,
}
"""One row for each leaf of the two trees of errors."""


def disposition_of(error: Exception) -> Disposition:
    """Return the row of an error; one that nobody foresaw is a fault of ours and fails."""
    return DISPOSITIONS.get(type(error), Disposition.FAIL)
