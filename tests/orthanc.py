"""A real Orthanc with DICOMweb on loopback, with a storage of its own."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.demo.processes import free_port

_DEADLINE_S = 60.0
_PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so",)


@dataclass(frozen=True)
class RunningOrthanc:
    """Where it listens, and what it holds."""

    ae_title: str
    port: int
    http_port: int

    @property
    def dicomweb_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def request(self, path: str, body: bytes | None = None, method: str = "GET") -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.http_port, timeout=_DEADLINE_S)) as server:
            server.request(method, path, body)
            response = server.getresponse()
            content = response.read()
        assert response.status == HTTPStatus.OK, f"{method} {path}: {response.status} {content!r}"
        return content

    def store(self, dataset: Dataset) -> None:
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        self.request("/instances", buffer.getvalue(), "POST")

    def instances(self) -> list[Dataset]:
        names = json.loads(self.request("/instances"))
        return [dcmread(BytesIO(self.request(f"/instances/{name}/file"))) for name in names]

    def clear(self) -> None:
        for name in json.loads(self.request("/patients")):
            self.request(f"/patients/{name}", method="DELETE")


@contextmanager
def running_orthanc(program: str, folder: Path, **changes: object) -> Iterator[RunningOrthanc]:
    """Start an Orthanc, wait until it answers, stop it at the end."""
    orthanc = RunningOrthanc("ORTHANC", free_port(), free_port())
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpPort": orthanc.http_port,
        "DicomPort": orthanc.port,
        "DicomAet": orthanc.ae_title,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        # With the default, QIDO-RS loses what Latin letters cannot spell.
        "DefaultEncoding": "Utf8",
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False,
        "Plugins": list(_PLUGINS),
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration | changes))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(orthanc, process, folder / "orthanc.log")
        yield orthanc
    finally:
        process.terminate()
        process.wait(_DEADLINE_S)


def _wait(orthanc: RunningOrthanc, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < deadline, "Orthanc does not answer"
        try:
            orthanc.request("/system")
            return
        except OSError:
            time.sleep(0.05)
