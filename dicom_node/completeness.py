"""Prove that a series is complete: ask the PACS of its source how many images there are.

The quiet period says when to ask; the answer says whether all images are here. What is missing is
fetched where the settings let it be.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from dicom_node.config import NodeSettings, QuerySettings
from dicom_node.errors import PeerError
from dicom_node.ledger import Ledger
from dicom_node.query import Archive
from dicom_node.records import TIMER_ONLY, Proof, SeriesRecord
from dicom_node.sender import Peer

logger = structlog.get_logger(__name__)

SERIES_INCOMPLETE: Final = "SERIES_INCOMPLETE"
"""Code of the alarm about a series of which the PACS has images that are not here."""


class Holdings(Protocol):
    """What is asked of a PACS; see ``query.Archive``. Raises ``PeerError``."""

    def count(self, study_instance_uid: str, series_instance_uid: str) -> int | None:
        """How many instances of a series it has; ``None`` when it does not say."""

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a series that it has."""

    def send_to(
        self,
        destination: str,
        study_instance_uid: str,
        series_instance_uid: str,
        sop_instance_uids: Sequence[str],
    ) -> None:
        """Have it store instances at an AE title."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of asking.

    Parameters
    ----------
    sentence : str
        For the record, as in "412 of 412, confirmed by PACS-A".
    missing : int
        Images that the PACS has and that are not here.
    """

    sentence: str
    missing: int = 0


@dataclass(frozen=True, slots=True)
class ProofDesk:
    """Holds a series back until its PACS has been heard, or was not heard in time.

    Parameters
    ----------
    ledger : Ledger
    settings : NodeSettings
    ask : callable
        Sends the task that asks, for (Series Instance UID, revision).
    """

    ledger: Ledger
    settings: NodeSettings
    ask: Callable[[str, int], None]

    def is_settled(self, record: SeriesRecord, now: datetime) -> bool:
        """Whether a series may go to a worker.

        Raises
        ------
        BrokerError
            The question could not be sent; it is asked again.
        """
        query = self.settings.query_for(record.source_ae_title)
        if query is None:
            return True
        uid, revision = record.series_instance_uid, record.revision
        proof = self.ledger.proofs.of(uid, revision)
        if proof is None:
            self.ask(uid, revision)
            due_at = now + timedelta(seconds=query.patience_s)
            self.ledger.proofs.put(Proof(uid, revision, False, "not asked yet", due_at))
            return False
        if not proof.settled and now >= proof.due_at:
            sentence = f"{TIMER_ONLY}: {query.ae_title} was not heard in {query.patience_s:g} s"
            self.ledger.proofs.put(Proof(uid, revision, True, sentence, now))
            return True
        return proof.settled


def prove(
    record: SeriesRecord, ledger: Ledger, query: QuerySettings, holdings: Holdings, own_title: str
) -> Verdict:
    """Compare what is here with what the PACS has; fetch what is missing.

    Parameters
    ----------
    record : SeriesRecord
    ledger : Ledger
    query : QuerySettings
    holdings : Holdings
    own_title : str
        AE title that the PACS knows us by.

    Returns
    -------
    Verdict
    """
    study, series = record.study_instance_uid, record.series_instance_uid
    here = {instance.sop_instance_uid for instance in ledger.instances(series)}
    name = query.ae_title
    try:
        count = holdings.count(study, series)
        if count == len(here):
            return Verdict(f"{len(here)} of {count}, confirmed by {name}")
        there = holdings.instances(study, series)
    except PeerError as error:
        return Verdict(f"{TIMER_ONLY}: {error}")
    if there - here:
        return _fetch(record, query, holdings, own_title, there, here)
    if not there:
        return Verdict(f"{TIMER_ONLY}: {name} knows nothing of this series")
    return Verdict(f"{len(here)} here, {len(there)} at {name} so far, none missing")


def record_proof(
    series_instance_uid: str, revision: int, ledger: Ledger, settings: NodeSettings, now: datetime
) -> None:
    """Ask the PACS of a series and write down what it says; the work of one task.

    Raises
    ------
    LedgerError
    """
    record = ledger.series(series_instance_uid)
    query = settings.query_for(record.source_ae_title)
    if query is None or record.revision != revision:
        return
    peer = Peer(query.ae_title, query.host, query.port)
    own_title = settings.listener.ae_title
    archive = Archive(peer, own_title, settings.delivery.timeout_s)
    verdict = prove(record, ledger, query, archive, own_title)
    ledger.proofs.put(Proof(series_instance_uid, revision, True, verdict.sentence, now))
    if verdict.missing:
        ledger.alarms.raise_(SERIES_INCOMPLETE, series_instance_uid, verdict.sentence, now)
    logger.info("completeness", series=series_instance_uid, said=verdict.sentence)


def _fetch(
    record: SeriesRecord,
    query: QuerySettings,
    holdings: Holdings,
    own_title: str,
    there: AbstractSet[str],
    here: AbstractSet[str],
) -> Verdict:
    missing = sorted(there - here)
    found = f"{len(there & here)} of {len(there)} at {query.ae_title}, {len(missing)} missing"
    if not query.fetch_missing:
        return Verdict(found, len(missing))
    study, series = record.study_instance_uid, record.series_instance_uid
    try:
        holdings.send_to(own_title, study, series, missing)
    except PeerError as error:
        return Verdict(f"{found}, which could not be fetched: {error}", len(missing))
    # They came in on associations of their own, so the series is being received again.
    return Verdict(f"{found}, fetched")
