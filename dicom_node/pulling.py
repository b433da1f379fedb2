"""Fetch series with their drawings from an archive into folders, for training.

References
----------
DICOM PS3.4 Annex C (Query/Retrieve: C-FIND, C-GET, C-MOVE); PS3.18 10 (QIDO-RS, WADO-RS).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicom_node.contexts import TRANSFER_SYNTAXES
from dicom_node.errors import PeerError
from dicom_node.folder_sending import parse_peer
from dicom_node.query_retrieve import FIND, GET, MOVE, Inquirer, Intake, level_keys
from dicom_node.sender import Peer

MODALITIES: Final = ("CT", "SEG", "RTSTRUCT")
"""What training reads: images and the objects that hold drawings."""

_CLASSES: Final = (
    CTImageStorage, EnhancedCTImageStorage, SegmentationStorage, RTStructureSetStorage,
)  # fmt: skip
_SUCCESS: Final = 0x0000
_DAMAGED: Final = 0xC000
_TIMEOUT_S: Final = 60.0
# An address with a typing error should not take half a minute to be told.
_ATTEMPTS: Final = 3
_FIRST_WAIT_MS: Final = 500


@dataclass(frozen=True, slots=True)
class RemoteSeries:
    """One series in an archive, by its UIDs."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch.

    Parameters
    ----------
    studies : tuple of str
        Study Instance UIDs; empty takes the days.
    dates : str
        Study Date as DICOM matches it, such as ``20240101-20240331``; used without studies.
    modalities : tuple of str
    series : tuple of str
        Series Instance UIDs; empty takes every series of the studies.
    """

    studies: tuple[str, ...] = ()
    dates: str = ""
    modalities: tuple[str, ...] = MODALITIES
    series: tuple[str, ...] = ()

    def includes(self, series_instance_uid: str) -> bool:
        """Whether a series is one of those that are named."""
        return not self.series or series_instance_uid in self.series


def pull_from(
    source: str, titles: tuple[str, str], wanted: Wanted, folder: Path
) -> Iterator[RemoteSeries]:
    """Fetch in the way that the addresses ask for.

    Parameters
    ----------
    source : str
        ``HOST:PORT``, or the root of a DICOMweb service.
    titles : tuple[str, str]
        AE titles of the archive and of ours; ``TITLE:PORT`` for ours asks for C-MOVE.
    wanted : Wanted
    folder : Path

    Raises
    ------
    ValueError
        An address is malformed, with the sentence for the user.
    """
    if source.startswith(("http://", "https://")):
        return pull_by_web(source, wanted, folder)
    called, calling = titles
    title, _, port = calling.partition(":")
    peer = parse_peer(source, called)
    if port:
        ours = parse_peer(f"localhost:{port}", title)
        return pull_by_move(peer, ours.ae_title, ours.port, wanted, folder)
    return pull_by_get(peer, title, wanted, folder)


def pull_by_get(
    peer: Peer, calling_ae_title: str, wanted: Wanted, folder: Path
) -> Iterator[RemoteSeries]:
    """Fetch by C-GET, over the association that we open; yields each series when it is there.

    Parameters
    ----------
    peer : Peer
    calling_ae_title : str
    wanted : Wanted
    folder : Path
        Objects are written as ``SERIES_UID/SOP_UID.dcm``.

    Raises
    ------
    PeerError
        There is no association, or the peer breaks it off or fails.
    """
    intake = Intake(_CLASSES, [one.uid for one in TRANSFER_SYNTAXES], partial(_keep, folder=folder))
    archive = Inquirer(peer, calling_ae_title, _TIMEOUT_S)
    with archive.associated(FIND, GET, intake=intake) as association:
        for series in _find(archive, association, wanted):
            archive.get(association, _identifier(series))
            yield series


def pull_by_move(
    peer: Peer, calling_ae_title: str, port: int, wanted: Wanted, folder: Path
) -> Iterator[RemoteSeries]:
    """Fetch by C-MOVE to ourselves; the archive must know our AE title with this port.

    Parameters are those of ``pull_by_get``, and ``port`` is where we listen meanwhile.
    """
    receiver = AE(calling_ae_title)
    for sop_class in _CLASSES:
        receiver.add_supported_context(sop_class, [one.uid for one in TRANSFER_SYNTAXES])
    handlers: list[Any] = [(evt.EVT_C_STORE, _keep, [folder])]
    receiver.start_server(("", port), block=False, evt_handlers=handlers)
    archive = Inquirer(peer, calling_ae_title, _TIMEOUT_S)
    try:
        with archive.associated(FIND, MOVE) as association:
            for series in _find(archive, association, wanted):
                archive.move(association, _identifier(series), calling_ae_title)
                yield series
    finally:
        receiver.shutdown()


def pull_by_web(url: str, wanted: Wanted, folder: Path) -> Iterator[RemoteSeries]:
    """Fetch by QIDO-RS and WADO-RS.

    Parameters
    ----------
    url : str
        Root of the service, such as ``http://archive:8042/dicom-web``.
    wanted : Wanted
    folder : Path

    Raises
    ------
    PeerError
        The service cannot be reached or answers with an error.
    """
    from dicomweb_client.api import DICOMwebClient
    from dicomweb_client.session_utils import create_session
    from requests import RequestException

    try:
        with create_session() as session:
            client = DICOMwebClient(url, session=session)
            client.set_http_retry_params(
                max_attempts=_ATTEMPTS, wait_exponential_multiplier=_FIRST_WAIT_MS
            )
            for series in _find_on_web(client, wanted):
                for dataset in client.retrieve_series(
                    series.study_instance_uid, series.series_instance_uid
                ):
                    write_object(dataset, folder)
                yield series
    except RequestException as error:
        raise PeerError(f"the archive at {url} does not answer ({type(error).__name__})") from error


def _find_on_web(client: Any, wanted: Wanted) -> Iterator[RemoteSeries]:  # noqa: ANN401 - imported late
    filters: list[dict[str, str]] = [{"StudyInstanceUID": uid} for uid in wanted.studies]
    for one in filters or [{"StudyDate": wanted.dates}]:
        for modality in wanted.modalities:
            for found in client.search_for_series(
                search_filters={**one, "Modality": modality}, get_remaining=True
            ):
                header = Dataset.from_json(found)
                if wanted.includes(header.SeriesInstanceUID):
                    yield RemoteSeries(header.StudyInstanceUID, header.SeriesInstanceUID, modality)


def _find(archive: Inquirer, association: Association, wanted: Wanted) -> list[RemoteSeries]:
    """List the series, study by study: a query on the level of series needs its study."""
    studies = wanted.studies or tuple(_find_studies(archive, association, wanted.dates))
    found = []
    for study in studies:
        keys = level_keys("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", Modality="")
        found += [
            RemoteSeries(study, str(answer.SeriesInstanceUID), str(answer.Modality))
            for answer in archive.find(association, keys)
            if str(answer.get("Modality")) in wanted.modalities
            and wanted.includes(str(answer.SeriesInstanceUID))
        ]
    return found


def _find_studies(archive: Inquirer, association: Association, dates: str) -> Iterator[str]:
    keys = level_keys("STUDY", StudyDate=dates, StudyInstanceUID="")
    for answer in archive.find(association, keys):
        yield str(answer.StudyInstanceUID)


def _identifier(series: RemoteSeries) -> Dataset:
    return level_keys(
        "SERIES",
        StudyInstanceUID=series.study_instance_uid,
        SeriesInstanceUID=series.series_instance_uid,
    )


def _keep(event: Event, folder: Path) -> int:
    """Answer one C-STORE; success once the file is there (PS3.4 B.2.3)."""
    try:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        write_object(dataset, folder)
    except (OSError, ValueError, AttributeError):
        return _DAMAGED
    return _SUCCESS


def write_object(dataset: Dataset, folder: Path) -> None:
    """Write an object as ``SERIES_UID/SOP_UID.dcm``; ``ValueError`` for what is no UID."""
    # UIDs alone name files; what is no UID could lead out of the folder.
    names = [str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)]
    if not all(name.replace(".", "").isdecimal() for name in names):
        raise ValueError("a UID holds other characters than digits and dots")
    path = folder / names[0] / f"{names[1]}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    dataset.save_as(partial, enforce_file_format=True)
    partial.rename(path)


def pull_with_progress(series: Iterator[RemoteSeries]) -> Sequence[RemoteSeries]:
    """Fetch all series and say each on standard error as it arrives."""
    import typer

    fetched = []
    for one in series:
        fetched.append(one)
        typer.echo(f"{len(fetched)}: {one.modality} {one.series_instance_uid}", err=True)
    return fetched
