"""What a real Orthanc has and we missed is listed, and fetched in each of three ways."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.config import load_settings
from dicom_node.demo.processes import free_port
from tests.certificates import Authority
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import Node, listening_node
from tests.orthanc import RunningOrthanc, running_orthanc
from tests.peers import Scanner
from tests.phantoms import TorsoPhantom

pytestmark = [pytest.mark.network, pytest.mark.slow]

PHANTOM = TorsoPhantom(shape=(3, 16, 16), pixel_mm=24.0)
YESTERDAY = "2026-01-02"


@dataclass
class Hospital:
    """A PACS with three series of one day, of which the node has one and part of another."""

    node: Node
    orthanc: RunningOrthanc
    here: str
    partly: str
    missed: str

    def count(self, uid: str) -> int:
        return len(self.node.ledger.instances(uid))


def new_series(folder: Path, date: str = "20260102") -> tuple[str, list[Path]]:
    study, series = generate_uid(), generate_uid()
    paths = PHANTOM.write_series(folder)
    for path in paths:
        dataset = dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyDate = date
        dataset.save_as(path)
    return series, paths


@pytest.mark.parametrize("way", ["move", "get"])
def test_all_of_it_goes_by_tls_where_there_is_no_port_in_the_clear(
    way: str,
    psoas: Psoas,
    config: Path,
    tmp_path: Path,
    tool: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("psoas"), authority.issue("pacs")
    port, clear = free_port(), free_port()
    at = {"AET": "PSOAS", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}
    secure = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(theirs.certificate),
        "DicomTlsPrivateKey": str(theirs.private_key),
        "DicomTlsTrustedCertificates": str(authority.certificate),
        "DicomModalities": {"psoas": at},
    }
    with running_orthanc(tool("Orthanc"), tmp_path, **secure) as orthanc:
        query = f'{{ae_title = "ORTHANC", host = "127.0.0.1", port = {orthanc.port}, tls = %s}}'
        settings = (
            '[storage]\nfolder = "node"\nfree_space_watermark_mib = 0\n'
            f"[listener]\nport = {clear}\n"
            f'[tls]\nport = {port}\nonly = true\ncertificate = "{ours.certificate}"\n'
            f'private_key = "{ours.private_key}"\nauthorities = "{authority.certificate}"\n'
            '[[sources]]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
            '[[sources]]\nae_title = "PSOAS_PULL"\nhost = "127.0.0.1"\n'
            f'[[sources]]\nae_title = "SCANNER"\nquery = {query}\n'
        )
        config.write_text(settings % "true")
        uid, paths = new_series(tmp_path / "series")
        for path in paths:
            orthanc.store(dcmread(path))
        with listening_node(load_settings(config)) as node:
            by = ["--by", "get"] if way == "get" else []
            capsys.readouterr()  # what the node says of its start
            assert psoas("catch-up", "--since", YESTERDAY, *by, "--json") == 0
            assert listed(capsys)[uid]["standing"] == "here"
            assert len(node.ledger.instances(uid)) == 3
        # In the clear this PACS is not to be had.
        config.write_text(settings % "false")
        assert psoas("catch-up", "--since", YESTERDAY, "--dry-run") == 1
        assert "PEER_" in capsys.readouterr().err


def test_a_query_by_tls_needs_our_own_certificate(
    psoas: Psoas, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = '{ae_title = "PACS", host = "pacs", port = 2762, tls = true}'
    config.write_text(f'{config.read_text()}[[sources]]\nae_title = "CT1"\nquery = {query}\n')
    assert psoas("catch-up") == 1
    assert "query of PACS has tls, but there is no [tls]" in capsys.readouterr().err


@pytest.fixture
def hospital(tmp_path: Path, config: Path, tool: Callable[[str], str]) -> Iterator[Hospital]:
    port, movers = free_port(), {}
    movers["psoas"] = ["PSOAS", "127.0.0.1", port]
    with running_orthanc(tool("Orthanc"), tmp_path, DicomModalities=movers) as orthanc:
        config.write_text(
            '[storage]\nfolder = "node"\nfree_space_watermark_mib = 0\n'
            f"[listener]\nport = {port}\n"
            '[[sources]]\nae_title = "SCANNER"\nhost = "127.0.0.1"\n'
            f'query = {{ae_title = "ORTHANC", host = "127.0.0.1", port = {orthanc.port}}}\n'
            '[[sources]]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
            '[[sources]]\nae_title = "PSOAS_PULL"\nhost = "127.0.0.1"\n'
        )
        with listening_node(load_settings(config)) as node:
            uids = []
            for number, sent in enumerate((3, 1, 0)):
                uid, paths = new_series(tmp_path / str(number))
                uids.append(uid)
                for path in paths:
                    orthanc.store(dcmread(path))
                if sent:
                    Scanner(node.port).send(paths[:sent])
            _, other_day = new_series(tmp_path / "other", "20260105")
            orthanc.store(dcmread(other_day[0]))
            yield Hospital(node, orthanc, *uids)


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    report = json.loads(capsys.readouterr().out)
    return {one["held"]["series_instance_uid"]: one for one in report["series"]}


def test_what_was_missed_is_listed_and_nothing_is_fetched(
    psoas: Psoas, hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("catch-up", "--since", YESTERDAY, "--dry-run", "--json") == 4
    found = {uid: (one["standing"], one["here"]) for uid, one in listed(capsys).items()}
    assert found == {
        hospital.here: ("here", 3),
        hospital.partly: ("incomplete", 1),
        hospital.missed: ("missed", 0),
    }
    assert hospital.count(hospital.missed) == 0
    # Of another day there is nothing that could be missing.
    assert psoas("catch-up", "--since", "2026-01-03", "--dry-run") == 0


@pytest.mark.parametrize("way", ["move", "get", "web"])
def test_what_was_missed_is_fetched_and_no_image_twice(
    way: str, psoas: Psoas, hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hospital.node.ledger.instances(hospital.partly)
    source = {
        "move": [],
        "get": ["--by", "get"],
        "web": ["--source", hospital.orthanc.dicomweb_url],
    }
    assert psoas("catch-up", "--since", YESTERDAY, *source[way], "--json") == 0
    assert {one["standing"] for one in listed(capsys).values()} == {"here"}
    for uid in (hospital.here, hospital.partly, hospital.missed):
        assert hospital.count(uid) == 3
        assert hospital.node.ledger.series(uid).state.value == "receiving"
    assert set(before) <= set(hospital.node.ledger.instances(hospital.partly))
    assert psoas("catch-up", "--since", YESTERDAY) == 0


@pytest.mark.usefixtures("hospital")
def test_a_pacs_that_is_away_is_a_sentence(
    psoas: Psoas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("catch-up", "--source", f"127.0.0.1:{free_port()}") == 1
    assert "PEER_UNREACHABLE" in capsys.readouterr().err


def test_without_a_pacs_to_ask_the_settings_are_named(
    psoas: Psoas, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_settings(config).storage.folder.mkdir()
    assert psoas("catch-up") == 1
    assert "SETTINGS_INVALID" in capsys.readouterr().err
    assert psoas("catch-up", "--source", "nonsense") == 2
