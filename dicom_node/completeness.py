"""Prove that a series is complete: ask the PACS of its source how many images there are.

The quiet period says when to ask; the answer says whether all images are here. What is missing is
fetched where the settings let it be.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from dicom_node.config import NodeSettings, QuerySettings
from dicom_node.errors import PeerError
from dicom_node.fetching import Fetch, archive_of, fetch_of
from dicom_node.ledger import Ledger
from dicom_node.patience import is_over
from dicom_node.query import WebArchive
from dicom_node.records import TIMER_ONLY, Proof, SeriesRecord

logger = structlog.get_logger(__name__)

SERIES_INCOMPLETE: Final = "SERIES_INCOMPLETE"
"""Code of the alarm about a series of which the PACS has images that are not here."""


_ANNOUNCED_PATIENCE_S: Final = 60.0
"""How long announced images are waited for that the quiet period did not bring."""


class Holdings(Protocol):
    """What is asked of a PACS; see ``query.Archive``. Raises ``PeerError``."""

    def count(self, study_instance_uid: str, series_instance_uid: str) -> int | None:
        """How many instances of a series it has; ``None`` when it does not say."""

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a series that it has."""


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
            return self._is_as_announced(record, now)
        uid, revision = record.series_instance_uid, record.revision

        def note(settled: bool, due_at: datetime) -> None:
            sentence = self._unheard(record, query) if settled else "not asked yet"
            self.ledger.proofs.put(Proof(uid, revision, settled, sentence, due_at))

        noted = self.ledger.proofs.of(uid, revision)
        return is_over(noted, now, query.patience_s, partial(self.ask, uid, revision), note)

    def _unheard(self, record: SeriesRecord, query: QuerySettings) -> str:
        announced = compare_with_announced(record, self.ledger)
        if announced is not None:
            return announced.sentence
        return f"{TIMER_ONLY}: {query.ae_title} was not heard in {query.patience_s:g} s"

    def _is_as_announced(self, record: SeriesRecord, now: datetime) -> bool:
        """Whether what was announced is here; what is missing is waited for, but not for ever."""
        uid, revision = record.series_instance_uid, record.revision
        proof = self.ledger.proofs.of(uid, revision)
        if proof is not None and proof.settled:
            return True
        verdict = compare_with_announced(record, self.ledger)
        if verdict is None:
            return True
        if verdict.missing and (proof is None or now < proof.due_at):
            if proof is None:
                due_at = now + timedelta(seconds=_ANNOUNCED_PATIENCE_S)
                self.ledger.proofs.put(Proof(uid, revision, False, verdict.sentence, due_at))
            return False
        self.ledger.proofs.put(Proof(uid, revision, True, verdict.sentence, now))
        if verdict.missing:
            self.ledger.alarms.raise_(SERIES_INCOMPLETE, uid, verdict.sentence, now)
        return True


def compare_with_announced(record: SeriesRecord, ledger: Ledger) -> Verdict | None:
    """Compare what is here of a series with what a peer announced of it.

    Returns
    -------
    Verdict or None
        ``None`` when nobody has announced anything.
    """
    said = ledger.announcements.of(record.series_instance_uid)
    if said is None:
        return None
    instances = ledger.instances(record.series_instance_uid)
    here = {instance.sop_instance_uid for instance in instances}
    missing = len(said.sop_instance_uids - here)
    found = len(said.sop_instance_uids) - missing
    sentence = (
        f"{found} of {len(said.sop_instance_uids)}, announced by {said.said_by} ({said.kind})"
    )
    return Verdict(f"{sentence}, {missing} missing" if missing else sentence, missing)


def prove(
    record: SeriesRecord,
    ledger: Ledger,
    name: str,
    holdings: Holdings,
    fetch: Fetch | None = None,
) -> Verdict:
    """Compare what is here with what the PACS has; fetch what is missing.

    Parameters
    ----------
    record : SeriesRecord
    ledger : Ledger
    name : str
        Of the PACS, for the record.
    holdings : Holdings
    fetch : Fetch, optional
        The way to images that are missing here.

    Returns
    -------
    Verdict
    """
    study, series = record.study_instance_uid, record.series_instance_uid
    here = {instance.sop_instance_uid for instance in ledger.instances(series)}
    try:
        count = holdings.count(study, series)
        if count == len(here):
            return Verdict(f"{len(here)} of {count}, confirmed by {name}")
        there = holdings.instances(study, series)
    except PeerError as error:
        return Verdict(f"{TIMER_ONLY}: {error}")
    if there - here:
        return _complete(record, name, fetch, there, here)
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
    holdings = _holdings_of(query, settings)
    fetch = fetch_of(query, settings, ledger)
    verdict = prove(record, ledger, query.ae_title, holdings, fetch)
    if verdict.sentence.startswith(TIMER_ONLY):
        verdict = compare_with_announced(record, ledger) or verdict
    ledger.proofs.put(Proof(series_instance_uid, revision, True, verdict.sentence, now))
    if verdict.missing:
        ledger.alarms.raise_(SERIES_INCOMPLETE, series_instance_uid, verdict.sentence, now)
    logger.info("completeness", series=series_instance_uid, said=verdict.sentence)


def _holdings_of(query: QuerySettings, settings: NodeSettings) -> Holdings:
    if query.web is not None:
        return WebArchive(query.web, settings.delivery.timeout_s)
    return archive_of(query, settings)


def _complete(
    record: SeriesRecord,
    name: str,
    fetch: Fetch | None,
    there: AbstractSet[str],
    here: AbstractSet[str],
) -> Verdict:
    missing = sorted(there - here)
    found = f"{len(there & here)} of {len(there)} at {name}, {len(missing)} missing"
    if fetch is None:
        return Verdict(found, len(missing))
    try:
        fetch(record.study_instance_uid, record.series_instance_uid, missing)
    except PeerError as error:
        return Verdict(f"{found}, which could not be fetched: {error}", len(missing))
    # They came in on associations of their own, so the series is being received again.
    return Verdict(f"{found}, fetched")
