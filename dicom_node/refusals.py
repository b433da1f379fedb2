"""Report a series that workers do not survive, without one: from its headers alone."""

from dataclasses import dataclass
from functools import partial

import structlog
from typing_extensions import override

from dicom_node import __version__
from dicom_node.background import Background
from dicom_node.errors import SpoolError
from dicom_node.ledger import Ledger
from dicom_node.notices import notices_of
from dicom_node.outcomes import result_file
from dicom_node.predecessors import predecessor_of_notice
from dicom_node.profiles import NOT_ANALYSED
from dicom_node.records import Reason, ResultFile, SeriesRecord
from dicom_node.spool import Spool
from dicom_node.worklog import Tell
from pipeline.objects.identity import ResultContext
from pipeline.objects.part10 import encoded, readable_files

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A reason in the form of an error that was raised elsewhere."""

    code: str
    message: str

    @override
    def __str__(self) -> str:
        return self.message


def teller(ledger: Ledger, spool: Spool) -> Tell:
    """Return the way to report a series that is quarantined because work on it came to nothing."""
    return partial(_tell, ledger, spool)


def _tell(
    ledger: Ledger, spool: Spool, record: SeriesRecord, reason: Reason
) -> tuple[ResultFile, ...]:
    # Loads dictionaries of 115 MiB, which most listeners never need.
    from pipeline.objects import not_analysed

    uid, revision = record.series_instance_uid, record.revision
    datasets = readable_files(spool.series_files(ledger.own_instances(uid)))
    if not datasets:
        return ()
    created_at = record.queued_at or record.updated_at
    background = Background(
        uid,
        earlier=ledger.results.of_series(uid),
        notices=notices_of(uid, ledger, spool),
    )
    # No version is older than one of a work that nobody ended.
    predecessor = predecessor_of_notice(background, (uid, revision, ""))
    report = not_analysed.build(
        _Refused(reason.code, reason.message),
        datasets,
        ResultContext(tuple(datasets), created_at, __version__, predecessor=predecessor),
    )
    try:
        name = f"{NOT_ANALYSED}.dcm"
        paths = spool.put_results(uid, revision, {name: encoded(report)})
    except SpoolError as error:
        # The series is quarantined all the same; that matters more than that somebody is told.
        logger.warning("no report", series=uid, error=str(error))
        return ()
    return (result_file(report, paths[name]),)
