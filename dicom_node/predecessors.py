"""Find the report that a new one on the same images replaces."""

from dataclasses import dataclass

from dicom_node.background import Background, predecessor_among
from dicom_node.profiles import REPORT, REPORT_ALONE
from dicom_node.records import ResultEntry
from pipeline.objects.identity import PredecessorReport


@dataclass(frozen=True, slots=True)
class Predecessors:
    """What new reports of the same images replace.

    Parameters
    ----------
    report, alone : PredecessorReport or None
        As in ``ResultContext``.
    """

    report: PredecessorReport | None = None
    alone: PredecessorReport | None = None


def predecessors_of(background: Background, origin: tuple[str, int, str]) -> Predecessors:
    """Find the reports that those of a new measurement of the same images replace.

    Parameters
    ----------
    background : Background
    origin : (series, revision, version)
        Of the new one.
    """
    entry = predecessor_among(background.earlier, origin)
    notice = _notice_before(background, entry, origin[1] + 1)
    if notice is not None or entry is None:
        return Predecessors(notice)
    report, alone = _report_of(entry, REPORT), _report_of(entry, REPORT_ALONE)
    return Predecessors(report or alone, alone)


def predecessor_of_notice(
    background: Background, origin: tuple[str, int, str]
) -> PredecessorReport | None:
    """Find the report that a new one replaces which says that the images were not analysed."""
    entry = predecessor_among(background.earlier, origin)
    notice = _notice_before(background, entry, origin[1])
    if notice is not None or entry is None:
        return notice
    return _report_of(entry, REPORT) or _report_of(entry, REPORT_ALONE)


def _notice_before(
    background: Background, entry: ResultEntry | None, revision: int
) -> PredecessorReport | None:
    """Find the last notice before a revision, unless a measurement came after it."""
    notices = [one for one in background.notices if one.revision < revision]
    # A reader's correction is a series of its own: it comes after what it corrects.
    if not notices or (entry and (entry.by_reader or entry.revision >= notices[-1].revision)):
        return None
    last = notices[-1]
    return PredecessorReport(
        last.study_instance_uid,
        last.series_instance_uid,
        last.sop_instance_uid,
        last.sop_class_uid,
    )


def _report_of(entry: ResultEntry, name: str) -> PredecessorReport | None:
    report = entry.latest(name)
    if report is None:
        return None
    return PredecessorReport(
        study_instance_uid=entry.study_instance_uid,
        series_instance_uid=report.series_instance_uid,
        sop_instance_uid=report.sop_instance_uid,
        sop_class_uid=report.sop_class_uid,
    )
