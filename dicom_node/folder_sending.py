"""Send a folder of DICOM files to a peer by hand."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import typer
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.outbox import Verdict, verdict_on
from dicom_node.sender import Answer, OutgoingFile, Peer, store_each

_TIMEOUT_S: Final = 60.0
_HEADER_TAGS: Final = ["SOPClassUID", "SOPInstanceUID"]


def parse_peer(address: str, ae_title: str) -> Peer:
    """Read ``HOST:PORT``.

    Raises
    ------
    ValueError
        With the sentence for the user.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address} is not HOST:PORT")
    if not 0 < len(ae_title.strip()) <= 16 or "\\" in ae_title:
        raise ValueError(f"{ae_title!r} is not an AE title of 1 to 16 characters")
    return Peer(ae_title, host, int(port))


def send_folder(folder: Path, peer: Peer, calling_ae_title: str) -> bool:
    """Store every DICOM file below a folder and print what became of them.

    Parameters
    ----------
    folder : Path
        Or a single file.
    peer : Peer
    calling_ae_title : str

    Returns
    -------
    bool
        Whether there were files and the peer took all of them.

    Raises
    ------
    PeerError
        There was no association.
    """
    files = list(_dicom_files(folder))
    if not files:
        typer.echo(f"{folder} holds no DICOM file that can be stored", err=True)
        return False
    answers = _store(files, peer, calling_ae_title)
    refused = [answer for answer in answers if verdict_on(answer) is not Verdict.ACCEPTED]
    typer.echo(f"{peer.label} took {len(answers) - len(refused)} of {len(files)} files")
    for detail, count in Counter(answer.detail for answer in refused).most_common():
        typer.echo(f"{count} not taken: {detail}", err=True)
    return not refused


def send_files(folder: Path, peer: Peer, calling_ae_title: str) -> list[Answer]:
    """Store every DICOM file below a folder without a word; return what was not taken.

    Raises
    ------
    PeerError
        There was no association.
    """
    files = list(_dicom_files(folder))
    answers = store_each(peer, files, calling_ae_title=calling_ae_title, timeout_s=_TIMEOUT_S)
    return [answer for answer in answers if verdict_on(answer) is not Verdict.ACCEPTED]


def _store(files: list[OutgoingFile], peer: Peer, calling_ae_title: str) -> list[Answer]:
    answers = []
    sending = store_each(peer, files, calling_ae_title=calling_ae_title, timeout_s=_TIMEOUT_S)
    with typer.progressbar(
        sending, length=len(files), label="storing", file=sys.stderr
    ) as progress:
        for answer in progress:
            answers.append(answer)  # noqa: PERF402 - the bar moves with each one
    return answers


def _dicom_files(folder: Path) -> Iterator[OutgoingFile]:
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    for path in paths:
        if not path.is_file():
            continue
        try:
            header = dcmread(path, specific_tags=_HEADER_TAGS, stop_before_pixels=True)
            yield OutgoingFile(
                sop_instance_uid=str(header.SOPInstanceUID),
                sop_class_uid=str(header.SOPClassUID),
                transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
                path=path,
            )
        except (InvalidDicomError, AttributeError, OSError, ValueError):
            continue  # no DICOM file, or a directory of media
