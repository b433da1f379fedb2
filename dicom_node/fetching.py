"""Fetch images of a series that its PACS has and that are missing here."""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from dicom_node.config import FetchBy, NodeSettings, QuerySettings
from dicom_node.destinations import queried_peer
from dicom_node.ledger import Ledger
from dicom_node.query import Archive
from dicom_node.receiver import Receiver
from dicom_node.spool import Spool

Fetch = Callable[[str, str, Sequence[str]], None]
"""Fetches SOP instances of a study and series; raises ``PeerError`` unless all of them came."""


def archive_of(query: QuerySettings, settings: NodeSettings) -> Archive:
    """Give the PACS of a source as one that answers DIMSE queries."""
    return Archive(
        queried_peer(query, settings), settings.listener.ae_title, settings.delivery.timeout_s
    )


def fetch_of(query: QuerySettings, settings: NodeSettings, ledger: Ledger) -> Fetch | None:
    """Give the way to images that are missing, ``None`` where none may be taken.

    Parameters
    ----------
    query : QuerySettings
    settings : NodeSettings
    ledger : Ledger
        Takes what comes by C-GET; by C-MOVE it comes to a listener like any other image.
    """
    if not query.fetch_missing:
        return None
    archive = archive_of(query, settings)
    if query.fetch_by is FetchBy.GET:
        return partial(_get, archive, settings, ledger)
    return partial(archive.send_to, settings.listener.ae_title)


def _get(
    archive: Archive,
    settings: NodeSettings,
    ledger: Ledger,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uids: Sequence[str],
) -> None:
    with closing(Spool.of(settings.storage)) as spool:
        # Decided, kept, recorded and audited as at the door: only the way in is another one.
        receiver = Receiver(settings, ledger, spool, _utc_now)
        where = (study_instance_uid, series_instance_uid)
        try:
            archive.get(*where, sop_instance_uids, receiver.on_c_store)
        finally:
            receiver.audit.write_all(_utc_now())
    completion = settings.completion_for(archive.peer.ae_title)
    ledger.record_release({series_instance_uid}, completion, _utc_now())


def _utc_now() -> datetime:
    return datetime.now(UTC)
