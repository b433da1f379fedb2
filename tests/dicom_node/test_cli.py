import json
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings, load_settings
from dicom_node.demo.processes import free_port
from dicom_node.ledger import Ledger
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import Reason, SeriesEvent, SeriesState
from dicom_node.spool import Spool
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import START, instance
from tests.peers import DATA_SET_MISMATCH, SUCCESS, ScriptedPacs
from tests.phantoms import TorsoPhantom

UID = "1.2.3"
PHANTOM = TorsoPhantom(shape=(3, 16, 16))


@pytest.fixture
def failed_series(config: Path) -> None:
    """A node whose only series could not be measured."""
    settings = load_settings(config)
    settings.storage.folder.mkdir()
    reason = Reason("L3_UNCERTAIN", "it may be L2 or L3")
    Spool.of(settings.storage).put_outcome(UID, 1, Outcome(OutcomeKind.FAILED, reason).to_json())
    ledger = Ledger.open(settings.ledger_url)
    ledger.record_instance(instance(), CompletionSettings())
    ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
    ledger.advance(UID, SeriesEvent.TASK_SENT, START)
    ledger.advance(UID, SeriesEvent.WORK_FAILED, START, reason=reason)
    ledger.close()


def state_of(uid: str, config: Path) -> SeriesState:
    ledger = Ledger.open(load_settings(config).ledger_url)
    state = ledger.series(uid).state
    ledger.close()
    return state


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from dicom_node.cli import main; sys.argv = ['psoas', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "analyse" in run.stdout
    loaded = set(run.stdout.split())
    assert not loaded & {"torch", "highdicom", "pynetdicom", "celery", "sqlalchemy", "numpy"}


def test_version_is_told(psoas: Psoas, capsys: pytest.CaptureFixture[str]) -> None:
    assert psoas("--version") == 0
    assert capsys.readouterr().out.startswith("psoas 0")


def test_missing_settings_are_one_sentence(
    psoas: Psoas, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert psoas("status", "--config", tmp_path / "none.toml") == 1
    error = capsys.readouterr().err
    assert error == (
        f"psoas: {tmp_path / 'none.toml'} cannot be read: No such file or directory "
        "[SETTINGS_INVALID]\n"
    )


def test_status_before_the_first_start_says_so(
    psoas: Psoas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("status") == 1
    assert "there is no ledger yet" in capsys.readouterr().err


@pytest.mark.usefixtures("failed_series")
def test_status_shows_counts_and_reasons(psoas: Psoas, capsys: pytest.CaptureFixture[str]) -> None:
    assert psoas("status") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1 failed\n")
    assert f"1 images from SCANNER           {UID}" in shown
    assert "it may be L2 or L3 [L3_UNCERTAIN]" in shown


@pytest.mark.usefixtures("failed_series")
def test_status_is_json_for_machines(psoas: Psoas, capsys: pytest.CaptureFixture[str]) -> None:
    assert psoas("status", "--json", "--state", "failed") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["counts"] == {"failed": 1}
    assert status["series"][0]["series_instance_uid"] == UID
    assert status["series"][0]["first_received_at"] == START.isoformat()


@pytest.mark.usefixtures("failed_series")
def test_series_can_be_named_by_the_end_of_its_uid(
    psoas: Psoas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert psoas("show", "2.3") == 0
    shown = capsys.readouterr().out
    assert f"series       {UID}" in shown
    assert "work_failed" in shown


@pytest.mark.usefixtures("failed_series")
def test_unknown_series_is_one_sentence(psoas: Psoas, capsys: pytest.CaptureFixture[str]) -> None:
    assert psoas("show", "9.9") == 1
    assert capsys.readouterr().err == (
        "psoas: no series is or ends in 9.9; psoas status lists them [SERIES_UNKNOWN]\n"
    )


@pytest.mark.usefixtures("failed_series")
def test_retry_forgets_the_old_outcome(psoas: Psoas, config: Path) -> None:
    assert psoas("retry", UID) == 0
    assert state_of(UID, config) is SeriesState.COMPLETE
    assert Spool.of(load_settings(config).storage).read_outcome(UID, 1) is None


@pytest.mark.usefixtures("failed_series")
def test_retry_takes_every_series_of_a_state(psoas: Psoas, config: Path) -> None:
    assert psoas("retry", "--state", "skipped") == 0
    assert state_of(UID, config) is SeriesState.FAILED
    assert psoas("retry", "--state", "failed") == 0
    assert state_of(UID, config) is SeriesState.COMPLETE


@pytest.mark.usefixtures("failed_series")
def test_series_on_its_way_is_not_retried(psoas: Psoas, capsys: pytest.CaptureFixture[str]) -> None:
    psoas("retry", UID)
    assert psoas("retry", UID) == 1
    assert "complete: it has not ended yet [TRANSITION_ILLEGAL]" in capsys.readouterr().err


def test_retry_of_nothing_is_misuse(psoas: Psoas) -> None:
    assert psoas("retry") == 2


@pytest.mark.network
def test_folder_is_sent(psoas: Psoas, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PHANTOM.write_series(tmp_path / "ct" / "series")
    (tmp_path / "ct" / "README.txt").write_text("no DICOM")
    with ScriptedPacs() as pacs:
        assert (
            psoas("send", tmp_path / "ct", "--to", f"127.0.0.1:{pacs.port}", "--called", "PACS")
            == 0
        )
    assert len(pacs.received) == 3
    assert "took 3 of 3 files" in capsys.readouterr().out


@pytest.mark.network
def test_refused_files_are_counted(
    psoas: Psoas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PHANTOM.write_series(tmp_path / "ct")
    with ScriptedPacs([SUCCESS, DATA_SET_MISMATCH, DATA_SET_MISMATCH]) as pacs:
        assert (
            psoas("send", tmp_path / "ct", "--to", f"127.0.0.1:{pacs.port}", "--called", "PACS")
            == 1
        )
    said = capsys.readouterr()
    assert "took 1 of 3 files" in said.out
    assert "2 not taken: status A900" in said.err


@pytest.mark.parametrize(
    ("to", "called"), [("localhost", "PACS"), ("host:0", "PACS"), ("host:x", "PACS"), ("h:1", " ")]
)
def test_peer_that_is_none_is_misuse(psoas: Psoas, tmp_path: Path, to: str, called: str) -> None:
    assert psoas("send", tmp_path, "--to", to, "--called", called) == 2


def test_empty_folder_is_a_failure(psoas: Psoas, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert psoas("send", tmp_path / "empty", "--to", "127.0.0.1:104") == 1


def test_analyse_of_a_missing_folder_is_misuse(psoas: Psoas, tmp_path: Path) -> None:
    assert psoas("analyse", tmp_path / "none", "--out", tmp_path / "out") == 2


def test_analyse_of_no_dicom_leaves_the_reason(
    psoas: Psoas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("no DICOM")
    assert psoas("analyse", tmp_path / "in", "--out", tmp_path / "out") == 3
    measurement = json.loads((tmp_path / "out" / "measurement.json").read_text())
    assert (measurement["status"], measurement["code"]) == ("not_measured", "FILE_UNREADABLE")
    assert "[FILE_UNREADABLE]" in capsys.readouterr().err


@pytest.mark.network
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_check_names_what_is_wrong(
    psoas: Psoas, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedPacs() as pacs:
        destinations = [("good", pacs.port), ("bad", free_port())]
        listener = f"[listener]\nport = {free_port()}\n"
        config.write_text(config.read_text() + listener + _destinations(destinations))
        assert psoas("check", "--json") == 1
    results = {result["subject"]: result for result in json.loads(capsys.readouterr().out)}
    assert [name for name, result in results.items() if not result["passed"]] == ["destination bad"]
    assert results["destination bad"]["code"] == "PEER_UNREACHABLE"
    assert "answers C-ECHO" in results["destination good"]["message"]
    assert "loads on" in results["models"]["message"]


def _destinations(destinations: list[tuple[str, int]]) -> str:
    return "".join(
        f'[[destinations]]\nname = "{name}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
        for name, port in destinations
    )


def test_check_lists_every_fault_of_the_settings(
    psoas: Psoas, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text('[storage]\nfolder = "node"\nodd = 1\n[listener]\nport = "high"\n')
    assert psoas("check") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["storage.odd", "listener.port"]


def test_settings_that_open_the_node_without_sources_are_refused(
    psoas: Psoas, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + '[listener]\nhost = "0.0.0.0"\n')
    assert psoas("serve") == 1
    assert "[[sources]] must name who may send" in capsys.readouterr().err
