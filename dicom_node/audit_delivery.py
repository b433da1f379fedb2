"""Tell the audit trail what of a study went to whom."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

from dicom_node.audit import AuditTrail
from dicom_node.audit_events import AuditedPeer, instances_sent
from dicom_node.audit_messages import Study
from dicom_node.config import DestinationSettings, NodeSettings
from dicom_node.ledger import Ledger
from dicom_node.ledger_queries import subject_of
from dicom_node.outbox import Store, Verdict, verdict_on
from dicom_node.sender import Answer, OutgoingFile


@dataclass(frozen=True, slots=True)
class AuditedStore:
    """Stores files and notes in the trail which of them the peer took.

    Parameters
    ----------
    send : Store
    note : callable
        Told how many instances of which SOP Class were taken, when any were.
    """

    send: Store
    note: Callable[[dict[str, int]], None]

    def __call__(self, files: Sequence[OutgoingFile]) -> Sequence[Answer]:
        """Store files; see ``outbox.Store``."""
        answers = list(self.send(files))
        taken = Counter(
            file.sop_class_uid
            for file, answer in zip(files, answers, strict=True)
            if verdict_on(answer) is Verdict.ACCEPTED
        )
        if taken:
            self.note(dict(taken))
        return answers


def audited(
    send: Store, series_instance_uid: str, destination: str, settings: NodeSettings, ledger: Ledger
) -> Store:
    """Let the results of a series that a destination takes show in the audit trail.

    A message that cannot be kept is lost, with a line in the log: results that are at the
    destination already cannot be held back any more.

    Parameters
    ----------
    send : Store
    series_instance_uid : str
        Of the measured series.
    destination : str
        Name in the settings; one that they do not name any more is given nothing.
    settings : NodeSettings
    ledger : Ledger
    """
    named = [known for known in settings.destinations if known.name == destination]
    if not named:
        return send
    receiver, trail = _peer(named[0]), AuditTrail.of(settings)

    def note(taken: dict[str, int]) -> None:
        study_uid, patient = ledger.read(
            partial(subject_of, series_instance_uid=series_instance_uid)
        )
        study = Study(study_uid, taken)
        trail.note(instances_sent(trail.ae_title, receiver, study, patient, datetime.now(UTC)))

    return AuditedStore(send, note)


def _peer(destination: DestinationSettings) -> AuditedPeer:
    if destination.web is not None:
        return AuditedPeer("", urlsplit(destination.web.url).hostname or destination.name)
    return AuditedPeer(destination.ae_title, destination.host)
