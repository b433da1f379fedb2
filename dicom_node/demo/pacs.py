"""The stand-in PACS: Orthanc where it is installed, otherwise a storage SCP that keeps files."""

import argparse
import json
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.demo.processes import DemoError, Parts, free_port
from dicom_node.sender import Peer
from dicom_node.serve import stop_on_signals
from dicom_node.uids import is_uid

_REST_TIMEOUT_S: Final = 30.0
_CANNOT_UNDERSTAND: Final = 0xC000


class Pacs(Protocol):
    """What the demo asks of a PACS."""

    name: str
    peer: Peer

    def results_of(self, study_instance_uid: str) -> list[Dataset]:
        """Read back every object of a study."""


class Orthanc:
    """An Orthanc with a storage of its own, asked through its REST interface.

    Parameters
    ----------
    program : str
    folder : Path
    parts : Parts
    """

    name = "Orthanc"

    def __init__(self, program: str, folder: Path, parts: Parts) -> None:
        self.peer = Peer("ORTHANC", "127.0.0.1", free_port())
        self._http_port = free_port()
        configuration = {
            "Name": "psoas demo",
            "StorageDirectory": str(folder / "orthanc"),
            "IndexDirectory": str(folder / "orthanc"),
            "HttpPort": self._http_port,
            "DicomPort": self.peer.port,
            "DicomAet": self.peer.ae_title,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
        }
        file = folder / "orthanc.json"
        file.write_text(json.dumps(configuration, indent=2), encoding="utf-8")
        # Without it each C-STORE waits some 40 ms for a delayed acknowledgement.
        parts.start("orthanc", [program, str(file)], {"TCP_NODELAY": "1"})

    def results_of(self, study_instance_uid: str) -> list[Dataset]:
        """Read back every object of a study."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid}}
        identifiers = json.loads(self._request("/tools/find", json.dumps(query).encode()))
        return [
            dcmread(BytesIO(self._request(f"/instances/{identifier}/file")))
            for identifier in identifiers
        ]

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        url = f"http://127.0.0.1:{self._http_port}{path}"
        try:
            with urllib.request.urlopen(url, body, _REST_TIMEOUT_S) as response:
                content: bytes = response.read()
                return content
        except (urllib.error.URLError, OSError) as error:
            raise DemoError(f"Orthanc does not answer {path}: {error}") from None


class FilePacs:
    """A storage SCP in a process of its own, asked by reading its folder.

    Parameters
    ----------
    folder : Path
    parts : Parts
    """

    name = "built-in storage SCP"

    def __init__(self, folder: Path, parts: Parts) -> None:
        self.peer = Peer("PACS", "127.0.0.1", free_port())
        self._folder = folder / "pacs"
        self._folder.mkdir()
        arguments = ["--folder", str(self._folder), "--port", str(self.peer.port)]
        parts.start_module("pacs", "dicom_node.demo.pacs", *arguments)

    def results_of(self, study_instance_uid: str) -> list[Dataset]:
        """Read back every object of a study."""
        datasets = [dcmread(path) for path in sorted(self._folder.glob("*.dcm"))]
        return [dataset for dataset in datasets if dataset.StudyInstanceUID == study_instance_uid]


def start_pacs(kind: str, folder: Path, parts: Parts) -> Pacs:
    """Start a PACS.

    Parameters
    ----------
    kind : str
        ``"orthanc"``, ``"builtin"``, or ``"auto"`` for Orthanc where it is installed.
    folder : Path
    parts : Parts

    Raises
    ------
    DemoError
        Orthanc was asked for and is not installed.
    """
    # Distributions install it where only administrators look.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("Orthanc", path=path)
    if kind == "builtin" or (kind == "auto" and program is None):
        return FilePacs(folder, parts)
    if program is None:
        raise DemoError("Orthanc is not installed; try --pacs builtin")
    return Orthanc(program, folder, parts)


def serve_files(folder: Path, port: int, stop: threading.Event) -> None:
    """Keep what peers store as files named after the SOP Instance UID, until told to stop."""

    def on_c_store(event: Event) -> int:
        uid = str(event.file_meta.MediaStorageSOPInstanceUID)
        if not is_uid(uid):
            return _CANNOT_UNDERSTAND
        part = folder / f"{uid}.part"
        part.write_bytes(event.encoded_dataset())
        part.replace(folder / f"{uid}.dcm")
        return 0x0000

    ae = AE(ae_title="PACS")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    handlers: list[Any] = [(evt.EVT_C_STORE, on_c_store)]
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    stop.wait()
    ae.shutdown()


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    stop = threading.Event()
    stop_on_signals(stop)
    serve_files(options.folder, options.port, stop)


if __name__ == "__main__":
    _main()
