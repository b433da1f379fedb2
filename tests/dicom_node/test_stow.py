import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import WebSettings
from dicom_node.contexts import RESULT_SOP_CLASSES
from dicom_node.errors import PeerError, SettingsError
from dicom_node.outbox import Verdict, verdict_on
from dicom_node.sender import OutgoingFile, Problem
from dicom_node.stow import ping, store_over_web
from pipeline.objects.identity import ResultContext
from pipeline.objects.results import RESULT_BUILDERS
from tests.orthanc import running_orthanc
from tests.phantoms import TorsoPhantom, phantom_analysis

pytestmark = pytest.mark.network

TIMEOUT_S = 20.0


@dataclass
class Script:
    """What a scripted server answers, and the credentials that it was shown."""

    answers: list[tuple[int, bytes]]
    credentials: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def scripted_server(*answers: tuple[int, bytes]) -> Iterator[Script]:
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            script.credentials.append(self.headers.get("Authorization", ""))
            status, body = script.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield script
        server.shutdown()
        thread.join()


def failure(reason: int) -> bytes:
    item = {"00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[OutgoingFile]:
    """Every result object of a phantom, as files."""
    phantom = TorsoPhantom()
    context = ResultContext(tuple(phantom.datasets()), datetime(2026, 1, 2, tzinfo=UTC), "0.0")
    folder = tmp_path_factory.mktemp("results")
    files = []
    for name, build in RESULT_BUILDERS.items():
        dataset = build(phantom_analysis(phantom), context)
        path = folder / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        sop_class, sop_instance = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
        files.append(OutgoingFile(sop_instance, sop_class, syntax, path))
    return files


def test_results_lie_in_orthanc_as_they_were_made(
    results: list[OutgoingFile], tool: Callable[[str], str], tmp_path: Path
) -> None:
    with running_orthanc(tool("Orthanc"), tmp_path) as orthanc:
        web = WebSettings(url=orthanc.dicomweb_url)
        ping(web, timeout_s=TIMEOUT_S)
        answers = store_over_web(web, results, timeout_s=TIMEOUT_S)
        assert [verdict_on(answer) for answer in answers] == [Verdict.ACCEPTED] * len(results)
        stored = {str(one.SOPInstanceUID): one for one in orthanc.instances()}
    for file in results:
        assert stored[file.sop_instance_uid] == dcmread(file.path)


def test_objects_are_of_the_classes_that_a_pacs_is_asked_for(results: list[OutgoingFile]) -> None:
    classes = {file.path.stem: file.sop_class_uid for file in results}
    assert classes.items() <= RESULT_SOP_CLASSES.items()


def test_object_that_is_refused_leaves_the_others_alone(results: list[OutgoingFile]) -> None:
    with scripted_server((409, failure(0xA900)), (200, b"{}")) as server:
        web = WebSettings(url=server.url)
        answers = store_over_web(web, results[:2], timeout_s=TIMEOUT_S)
    assert [verdict_on(answer) for answer in answers] == [Verdict.REFUSED, Verdict.ACCEPTED]
    assert answers[0].status == 0xA900
    assert answers[0].detail == "HTTP status 409, failure reason A900"


@pytest.mark.parametrize("status", [400, 409, 413, 415])
def test_refusal_without_a_reason_is_a_refusal(status: int, results: list[OutgoingFile]) -> None:
    with scripted_server((status, b"no JSON")) as server:
        (answer,) = store_over_web(WebSettings(url=server.url), results[:1], timeout_s=TIMEOUT_S)
    assert answer.problem is Problem.HTTP_REFUSED
    assert str(status) in answer.detail


def test_object_that_a_success_names_as_failed_is_not_delivered(
    results: list[OutgoingFile],
) -> None:
    with scripted_server((202, failure(0xA700))) as server:
        (answer,) = store_over_web(WebSettings(url=server.url), results[:1], timeout_s=TIMEOUT_S)
    assert verdict_on(answer) is Verdict.RETRY


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_trouble_of_the_server_is_not_held_against_the_object(
    status: int, results: list[OutgoingFile]
) -> None:
    with scripted_server((status, b"")) as server:
        web = WebSettings(url=server.url)
        with pytest.raises(PeerError, match=f"HTTP status {status}"):
            store_over_web(web, results[:1], timeout_s=TIMEOUT_S)


def test_server_that_fails_half_way_keeps_what_it_took(results: list[OutgoingFile]) -> None:
    with scripted_server((200, b"{}"), (503, b"")) as server:
        answers = store_over_web(WebSettings(url=server.url), results[:2], timeout_s=TIMEOUT_S)
    assert [verdict_on(answer) for answer in answers] == [Verdict.ACCEPTED, Verdict.RETRY]


def test_absent_server_is_a_peer_error(results: list[OutgoingFile]) -> None:
    with scripted_server() as server:
        web = WebSettings(url=server.url)
    with pytest.raises(PeerError, match="cannot be reached"):
        store_over_web(web, results[:1], timeout_s=TIMEOUT_S)
    with pytest.raises(PeerError, match="cannot be reached"):
        ping(web, timeout_s=TIMEOUT_S)


def test_secret_is_shown_to_the_server_alone(results: list[OutgoingFile], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    with scripted_server((200, b"{}"), (200, b"{}")) as server:
        for user in (None, "psoas"):
            web = WebSettings(url=server.url, user=user, secret_file=secret)
            store_over_web(web, results[:1], timeout_s=TIMEOUT_S)
    basic = base64.b64encode(b"psoas:open sesame").decode()
    assert server.credentials == ["Bearer open sesame", f"Basic {basic}"]
    with pytest.raises(SettingsError, match="cannot be read"):
        ping(WebSettings(url=server.url, secret_file=tmp_path / "absent"), timeout_s=TIMEOUT_S)
