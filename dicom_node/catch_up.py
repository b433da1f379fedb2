"""Compare what a PACS holds with what the ledger knows, and fetch what was missed.

Only images that are not here are fetched: a PACS may have changed a header, and other bytes under
a known UID would be a conflict.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from dicom_node.config import NodeSettings, WebSettings
from dicom_node.destinations import own_listener, queried_peer
from dicom_node.errors import PeerError, SettingsError, UnknownSeriesError
from dicom_node.folder_sending import parse_peer, send_files
from dicom_node.ledger import Ledger
from dicom_node.pulling import Wanted, pull_by_get, write_object
from dicom_node.query import Archive, HeldSeries, WebArchive
from dicom_node.records import SeriesState
from dicom_node.sender import Peer

STORE_TITLE: Final = "PSOAS_PULL"
"""Calling AE title under which fetched images are handed to our own listener."""


class Standing(StrEnum):
    """How a series of a PACS stands here."""

    HERE = "here"
    INCOMPLETE = "incomplete"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Compared:
    """One series of a PACS beside what is here.

    Parameters
    ----------
    held : HeldSeries
    standing : Standing
    here : int
        Images that the ledger has counted.
    state : SeriesState or None
        ``None`` when the ledger does not know the series.
    complaint : str
        Why it could not be fetched; empty otherwise.
    """

    held: HeldSeries
    standing: Standing
    here: int
    state: SeriesState | None
    complaint: str = ""


class Catalogue(Protocol):
    """A PACS that is asked; every method raises ``PeerError`` when it does not answer."""

    @property
    def name(self) -> str:
        """How people know it."""

    def series_of_days(self, days: str) -> Sequence[HeldSeries]:
        """CT series of studies of some days, as in ``20240101-20240131``."""

    def fetch(self, held: HeldSeries, here: frozenset[str]) -> None:
        """Have the images of a series stored here, but for those with the UIDs of ``here``."""


@dataclass(frozen=True, slots=True)
class MovingCatalogue:
    """A PACS that stores at our listener when it is told to (C-MOVE).

    Parameters
    ----------
    archive : Archive
    own_title : str
        AE title that the PACS knows our listener by.
    """

    archive: Archive
    own_title: str

    @property
    def name(self) -> str:
        """How people know it."""
        return self.archive.peer.ae_title

    def series_of_days(self, days: str) -> Sequence[HeldSeries]:
        """CT series of studies of some days (C-FIND)."""
        return self.archive.series_of_days(days)

    def fetch(self, held: HeldSeries, here: frozenset[str]) -> None:
        """Have what is missing sent to us."""
        study, series = held.study_instance_uid, held.series_instance_uid
        if not here:
            self.archive.send_series_to(self.own_title, study, series)
            return
        missing = self.archive.instances(study, series) - here
        if missing:
            self.archive.send_to(self.own_title, study, series, missing)


@dataclass(frozen=True, slots=True)
class PullingCatalogue:
    """A PACS that hands images out over our own connection (C-GET, WADO-RS).

    Parameters
    ----------
    name : str
    listed : callable
        From days to the series that it has.
    pull : callable
        Writes a series as files below a folder.
    store : callable
        Hands a folder to our own listener; ``PeerError`` when it does not take all of it.
    work_folder : Path
        Where images lie meanwhile, in a private folder of their own.
    """

    name: str
    listed: Callable[[str], Sequence[HeldSeries]]
    pull: Callable[[HeldSeries, Path], object]
    store: Callable[[Path], object]
    work_folder: Path

    def series_of_days(self, days: str) -> Sequence[HeldSeries]:
        """CT series of studies of some days."""
        return self.listed(days)

    def fetch(self, held: HeldSeries, here: frozenset[str]) -> None:
        """Fetch a series and hand what is missing to our listener."""
        with tempfile.TemporaryDirectory(prefix="catch-up-", dir=self.work_folder) as name:
            folder = Path(name)
            self.pull(held, folder)
            for path in folder.rglob("*.dcm"):
                if path.stem in here:
                    path.unlink()
            if any(folder.rglob("*.dcm")):
                self.store(folder)


def catalogues(
    settings: NodeSettings, source: str = "", called: str = "ARCHIVE", *, by_get: bool = False
) -> tuple[Catalogue, ...]:
    """Give the PACS to ask.

    Parameters
    ----------
    settings : NodeSettings
    source : str
        ``HOST:PORT`` or a DICOMweb URL; empty for those that the sources of the settings name.
    called : str
        AE title of ``source``.
    by_get : bool
        Fetch by C-GET over our own association, not by C-MOVE.

    Raises
    ------
    SettingsError
        There is none.
    ValueError
        ``source`` is malformed, with the sentence for the user.
    """
    if source.startswith(("http://", "https://")):
        return (_web_catalogue(WebSettings(url=source), settings),)
    kind = _getting_catalogue if by_get else _moving_catalogue
    if source:
        return (kind(parse_peer(source, called), settings),)
    queries = list(dict.fromkeys(one.query for one in settings.sources if one.query is not None))
    if not queries:
        raise SettingsError("no source names a PACS to query: add query to it, or give --source")
    return tuple(
        kind(queried_peer(query, settings), settings)
        if query.host or query.web is None
        else _web_catalogue(query.web, settings)
        for query in queries
    )


def compare(catalogue: Catalogue, since: date, until: date, ledger: Ledger) -> tuple[Compared, ...]:
    """List the CT series that a PACS holds of some days, beside what is here.

    Raises
    ------
    PeerError
    """
    days = f"{since:%Y%m%d}-{until:%Y%m%d}"
    return tuple(_compared(held, ledger) for held in catalogue.series_of_days(days))


def fetch_missing(
    compared: Sequence[Compared], catalogue: Catalogue, ledger: Ledger
) -> Iterator[Compared]:
    """Fetch what is not here; yields each series that was missing as it stands then."""
    for one in compared:
        if one.standing is Standing.HERE:
            continue
        here = ledger.instances(one.held.series_instance_uid)
        complaint = ""
        try:
            catalogue.fetch(one.held, frozenset(image.sop_instance_uid for image in here))
        except PeerError as error:
            complaint = str(error)
        now = _compared(one.held, ledger)
        yield Compared(now.held, now.standing, now.here, now.state, complaint)


def _compared(held: HeldSeries, ledger: Ledger) -> Compared:
    try:
        record = ledger.series(held.series_instance_uid)
    except UnknownSeriesError:
        return Compared(held, Standing.MISSED, 0, None)
    wanted = held.instance_count
    enough = wanted is None or record.instance_count >= wanted
    standing = Standing.HERE if enough else Standing.INCOMPLETE
    return Compared(held, standing, record.instance_count, record.state)


def _moving_catalogue(peer: Peer, settings: NodeSettings) -> Catalogue:
    return MovingCatalogue(_archive(peer, settings), settings.listener.ae_title)


def _getting_catalogue(peer: Peer, settings: NodeSettings) -> Catalogue:
    def pull(held: HeldSeries, folder: Path) -> object:
        return list(pull_by_get(peer, settings.listener.ae_title, _wanted(held), folder))

    listed = _archive(peer, settings).series_of_days
    return PullingCatalogue(
        peer.ae_title, listed, pull, partial(_store, settings=settings), settings.storage.folder
    )


def _web_catalogue(web: WebSettings, settings: NodeSettings) -> Catalogue:
    archive = WebArchive(web, settings.delivery.timeout_s)

    def pull(held: HeldSeries, folder: Path) -> None:
        uids = held.study_instance_uid, held.series_instance_uid
        archive.retrieve(*uids, lambda dataset: write_object(dataset, folder))

    store = partial(_store, settings=settings)
    return PullingCatalogue(web.url, archive.series_of_days, pull, store, settings.storage.folder)


def _wanted(held: HeldSeries) -> Wanted:
    uids = (held.series_instance_uid,)
    return Wanted(studies=(held.study_instance_uid,), modalities=("CT",), series=uids)


def _archive(peer: Peer, settings: NodeSettings) -> Archive:
    return Archive(peer, settings.listener.ae_title, settings.delivery.timeout_s)


def _store(folder: Path, settings: NodeSettings) -> None:
    """Hand files to our own listener, as a scanner would: nothing else records images."""
    refused = send_files(folder, own_listener(settings), STORE_TITLE)
    if refused:
        raise PeerError(f"our own listener did not take {len(refused)} images: {refused[0].detail}")
