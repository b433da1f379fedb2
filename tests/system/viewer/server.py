"""Serve a static viewer with the DICOMweb services of a PACS on one origin."""

import mimetypes
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

_SERVICES: Final = "/dicom-web"
_TIMEOUT_S: Final = 60.0
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding"})

_CONFIGURATION: Final = b"""\
window.config = {
  routerBasename: '/', extensions: [], modes: [], customizationService: {},
  showStudyList: true, maxNumberOfWebWorkers: 2,
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true, investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'pacs',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'pacs',
    configuration: {
      friendlyName: 'pacs', name: 'pacs',
      wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: true, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      omitQuotationForMultipartRequest: true, bulkDataURI: { enabled: true },
    },
  }],
};
"""


@contextmanager
def serving_viewer(build: Path, pacs_port: int) -> Iterator[str]:
    """Serve ``build`` and pass requests for DICOMweb on to a PACS on loopback; yields the URL."""
    handler = partial(_Handler, build, pacs_port)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, build: Path, pacs_port: int, *arguments: object) -> None:
        self._build = build
        self._pacs_port = pacs_port
        super().__init__(*arguments)  # type: ignore[arg-type]  # as the server calls it

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(_SERVICES):
            self._pass_on()
        elif path == "/app-config.js":
            self._answer(_CONFIGURATION, "text/javascript")
        else:
            self._send_file(self._build / path.lstrip("/"))

    def log_message(self, *_arguments: object) -> None:
        pass

    def _send_file(self, file: Path) -> None:
        if not file.resolve().is_relative_to(self._build.resolve()) or not file.is_file():
            file = self._build / "index.html"  # the viewer's own routes
        kind = "application/wasm" if file.suffix == ".wasm" else mimetypes.guess_type(file.name)[0]
        self._answer(file.read_bytes(), kind or "application/octet-stream")

    def _pass_on(self) -> None:
        # With the Host of the viewer: Orthanc builds the addresses of bulk data from it.
        headers = dict(self.headers.items())
        with closing(HTTPConnection("127.0.0.1", self._pacs_port, timeout=_TIMEOUT_S)) as pacs:
            pacs.request("GET", self.path, headers=headers)
            response = pacs.getresponse()
            content = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        self._end(content)

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self._end(content)

    def _end(self, content: bytes) -> None:
        # The viewer's workers share memory, which browsers allow to isolated pages only.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
