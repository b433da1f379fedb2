"""Weights are installed, used and rolled back with one command each; series are measured again."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node import __version__
from dicom_node.checks import _try_weights
from dicom_node.config import CompletionSettings, load_settings
from dicom_node.errors import UnknownModelError
from dicom_node.ledger import Ledger
from dicom_node.model_store import ModelKind, installed_models
from dicom_node.records import ReceivedInstance, ResultEntry, SeriesEvent, SeriesState
from dicom_node.search_keys import SearchAttribute, search_key
from dicom_node.spool import Spool
from pipeline.weights import MODELS_FOLDER
from tests.dicom_node.conftest import Psoas
from tests.dicom_node.factories import START, instance, result_entry
from tests.models import write_tiny_classifier, write_tiny_model

Shown = Callable[[], Any]
ACCESSION = "A-4711"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return lambda: json.loads(capsys.readouterr().out)


@pytest.fixture
def spool(config: Path) -> Spool:
    settings = load_settings(config)
    settings.storage.folder.mkdir()
    return Spool.of(settings.storage)


@pytest.fixture
def ledger(config: Path, spool: Spool) -> Iterator[Ledger]:
    opened = Ledger.open(load_settings(config).ledger_url)
    spool.patient_secret()
    yield opened
    opened.close()


def audited(config: Path) -> str:
    folder = load_settings(config).storage.folder / "audit" / "waiting"
    return " ".join(path.read_text(encoding="utf-8-sig") for path in sorted(folder.glob("*.msg")))


def installed(psoas: Psoas, shown: Shown, folder: Path) -> str:
    assert psoas("model", "add", folder, "--json") == 0
    return str(shown()["key"])


@pytest.mark.usefixtures("ledger")
def test_weights_are_used_and_rolled_back_with_one_command(
    psoas: Psoas, shown: Shown, tmp_path: Path, config: Path
) -> None:
    first = installed(psoas, shown, write_tiny_model(tmp_path / "first"))
    assert psoas("model", "list", "--json") == 0
    assert shown()["in_use"] == {"segmenter": None, "level_finder": None, "classifier": None}
    assert psoas("model", "use", first, "--because", "validated", "--json") == 0
    assert shown()["segmenter"] == first
    # A folder is installed on the way.
    second = write_tiny_model(tmp_path / "second", version="2")
    assert psoas("model", "use", second, "--json") == 0
    assert shown()["segmenter"].startswith("tiny-2-")
    assert psoas("model", "rollback", "--json") == 0
    assert shown()["segmenter"] == first
    assert psoas("model", "rollback", "--json") == 0
    assert shown()["segmenter"] is None
    assert psoas("model", "rollback") == 3
    said = audited(config)
    assert f"model {first} is used as segmenter" in said
    assert "withdrawn" in said
    assert "installed" in said


@pytest.mark.usefixtures("ledger")
def test_a_finder_of_levels_is_used_as_such(psoas: Psoas, shown: Shown) -> None:
    assert psoas("model", "use", MODELS_FOLDER / "l3_finder", "--json") == 0
    in_use = shown()
    assert in_use["level_finder"].startswith("l3_finder-1-")
    assert in_use["segmenter"] is None


@pytest.mark.usefixtures("ledger")
def test_a_classifier_is_used_as_such_and_rolled_back_to_no_second_opinion(
    psoas: Psoas, shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_classifier(tmp_path / "classifier")
    assert psoas("model", "use", folder, "--json") == 0
    in_use = shown()
    assert in_use["classifier"].startswith("tiny_classifier-1-")
    assert in_use["segmenter"] is None
    assert psoas("model", "list") == 0
    assert f"classifier    {in_use['classifier']}" in capsys.readouterr().out
    assert psoas("model", "rollback") == 0
    assert "classifier    none, no second opinions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "told"),
    [({"extra": {"threshold": 2.0}}, "threshold 2.0"), ({"labels": ["low", "other"]}, "low")],
)
@pytest.mark.usefixtures("ledger")
def test_a_classifier_that_does_not_fit_is_refused_with_its_own_fault(
    fault: dict[str, Any],
    told: str,
    psoas: Psoas,
    spool: Spool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_tiny_classifier(tmp_path / "wrong", **fault)
    assert psoas("model", "add", folder) == 1
    assert told in capsys.readouterr().err
    assert installed_models(spool) == ()


@pytest.mark.parametrize(
    "fault",
    [
        {"labels": ["muscle"]},
        {"extra": {}},
        {"network": {"name": "smit_compact", "arguments": {"out_channels": 5}}},
        {"network": {"name": "no such network", "arguments": {}}},
        {"preprocess": {"unheard_of": 1}},
    ],
)
@pytest.mark.usefixtures("ledger")
def test_weights_whose_manifest_does_not_fit_are_refused(
    fault: dict[str, Any],
    psoas: Psoas,
    spool: Spool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_tiny_model(tmp_path / "wrong", **fault)
    assert psoas("model", "use", folder) == 1
    assert "MODEL_UNUSABLE" in capsys.readouterr().err
    assert installed_models(spool) == ()
    assert not list(spool.path(Path("models")).glob("*"))


def test_altered_weights_are_refused_before_and_noticed_after_they_are_installed(  # noqa: PLR0913, PLR0917 - fixtures
    psoas: Psoas,
    shown: Shown,
    spool: Spool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ledger: Ledger,
    config: Path,
) -> None:
    folder = write_tiny_model(tmp_path / "model")
    key = installed(psoas, shown, folder)
    weights = spool.path(Path("models", key, "member_0.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert psoas("model", "list") == 1
    assert "DAMAGED: member_0.safetensors" in capsys.readouterr().out
    assert psoas("model", "use", key) == 1
    assert "MODEL_UNKNOWN" in capsys.readouterr().err
    ledger.models.use(ModelKind.SEGMENTER, key, "eve", START)
    with pytest.raises(UnknownModelError, match="damaged"):
        _try_weights(load_settings(config))
    (folder / "member_0.safetensors").write_bytes(b"x")
    assert psoas("model", "add", folder) == 1
    assert "differs from its checksum" in capsys.readouterr().err


@pytest.mark.usefixtures("ledger")
def test_another_manifest_needs_another_version(
    psoas: Psoas, shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = installed(psoas, shown, write_tiny_model(tmp_path / "first"))
    assert installed(psoas, shown, write_tiny_model(tmp_path / "again")) == first
    extra = {"threshold": 0.4, "calibration": None}
    folder = write_tiny_model(tmp_path / "other", extra=extra)
    assert psoas("model", "add", folder) == 1
    assert "give it a new version" in capsys.readouterr().err
    folder = write_tiny_model(tmp_path / "new", extra=extra, version="1.1")
    assert installed(psoas, shown, folder) != first


@pytest.mark.usefixtures("ledger")
def test_a_key_that_is_not_installed_is_named_with_those_that_are(
    psoas: Psoas, shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = installed(psoas, shown, write_tiny_model(tmp_path / "model"))
    assert psoas("model", "use", "../../etc") == 1
    assert key in capsys.readouterr().err


def put_series(ledger: Ledger, number: int, state: SeriesState) -> str:
    """A series of a study of its own that ended so."""
    uid = f"1.2.{number}"
    one: ReceivedInstance = instance(
        number, series_instance_uid=uid, study_instance_uid=f"1.9.{number}"
    )
    ledger.record_instance(one, CompletionSettings())
    ways = {
        SeriesState.RECEIVING: (),
        SeriesState.SKIPPED: (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.NOT_ELIGIBLE),
        SeriesState.DELIVERED: (
            *(SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT),
            *(SeriesEvent.MEASURED, SeriesEvent.ALL_DELIVERED),
        ),
    }
    for event in ways[state]:
        ledger.advance(uid, event, START)
    return uid


def measured_by(uid: str, sha256: str, area_cm2: float = 150.0) -> ResultEntry:
    measurement = {
        "skeletal_muscle_area_cm2": area_cm2,
        "software_version": __version__,
        "model": {"name": "old", "version": "1", "sha256": sha256},
        "level_models": [{"name": "finder", "version": "1", "sha256": "f" * 64}],
        "level": {"sop_instance_uid": "1.2.3.4"},
        "assessment": {"verdict": "above", "reason": "150 cm2 against 144"},
    }
    return replace(
        result_entry(), series_instance_uid=uid, source_series_uid=uid, measurement=measurement
    )


def plans(shown: Shown) -> dict[str, str]:
    return {one["series_instance_uid"]: one["plan"] for one in shown()["series"]}


def test_series_are_measured_again_by_the_model_that_is_named(
    psoas: Psoas, shown: Shown, ledger: Ledger, tmp_path: Path, config: Path
) -> None:
    key = installed(psoas, shown, write_tiny_model(tmp_path / "model"))
    done, skipped = (
        put_series(ledger, 1, SeriesState.DELIVERED),
        put_series(ledger, 2, SeriesState.SKIPPED),
    )
    ledger.results.record(measured_by(done, "a" * 64), START)
    assert psoas("replay", "--since", "2026-01-01", "--model", key, "--dry-run", "--json") == 0
    assert plans(shown) == {done: "replay"}
    assert ledger.series(done).state is SeriesState.DELIVERED
    assert psoas("replay", "--since", "2026-01-01", "--model", key, "--json") == 0
    shown()
    record = ledger.series(done)
    # Its results are new ones, so they get a time of their own.
    assert (record.state, record.model, record.queued_at) == (SeriesState.COMPLETE, key, None)
    assert ledger.history(done)[-1].event == "replay_requested"
    assert ledger.series(skipped).state is SeriesState.SKIPPED
    assert f"measured again by {key}" in audited(config)


def test_what_this_model_has_measured_is_left_alone(
    psoas: Psoas, shown: Shown, ledger: Ledger, tmp_path: Path
) -> None:
    assert psoas("model", "add", write_tiny_model(tmp_path / "model"), "--json") == 0
    model = shown()
    uid = put_series(ledger, 1, SeriesState.DELIVERED)
    entry = measured_by(uid, model["sha256"])
    same = {"name": model["name"], "version": model["version"], "sha256": model["sha256"]}
    ledger.results.record(
        replace(entry, measurement=dict(entry.measurement) | {"model": same}), START
    )
    assert psoas("replay", uid, "--model", model["key"], "--json") == 3
    assert plans(shown) == {uid: "same"}
    assert psoas("model", "use", model["key"], "--json") == 0
    shown()
    assert psoas("replay", uid, "--json") == 3
    assert plans(shown) == {uid: "same"}


def test_a_new_classifier_is_a_reason_to_measure_again(
    psoas: Psoas, shown: Shown, ledger: Ledger
) -> None:
    uid = put_series(ledger, 1, SeriesState.DELIVERED)
    entry = measured_by(uid, "a" * 64)
    ledger.results.record(entry, START)
    ledger.models.use(ModelKind.SEGMENTER, "old-1-aaaaaaaa", "eve", START)
    psoas("replay", uid, "--dry-run", "--json")
    assert plans(shown) == {uid: "same"}
    ledger.models.use(ModelKind.CLASSIFIER, "opinion-1-bbbbbbbb", "eve", START)
    psoas("replay", uid, "--dry-run", "--json")
    assert plans(shown) == {uid: "replay"}
    opinion = {"model": {"name": "opinion", "version": "1", "sha256": "b" * 64}}
    advised = dict(entry.measurement) | {"second_opinion": opinion}
    ledger.results.record(replace(entry, version="v2", measurement=advised), START)
    psoas("replay", uid, "--dry-run", "--json")
    assert plans(shown) == {uid: "same"}


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["1.2.1"], ["1.2.1"]),
        (["1.9.2"], ["1.2.2"]),
        (["--accession", ACCESSION], ["1.2.4"]),
        (["--until", "2026-01-02"], ["1.2.1", "1.2.4"]),
        (["--since", "2026-01-03"], []),
        (["--state", "skipped"], ["1.2.2"]),
        (["1.2.1", "--state", "skipped"], []),
        (["1.2.3", "--state", "receiving"], ["1.2.3"]),
    ],
)
def test_series_are_chosen_by_uid_accession_days_and_state(
    arguments: list[str],
    chosen: list[str],
    psoas: Psoas,
    shown: Shown,
    ledger: Ledger,
    spool: Spool,
) -> None:
    put_series(ledger, 1, SeriesState.DELIVERED)
    put_series(ledger, 2, SeriesState.SKIPPED)
    put_series(ledger, 3, SeriesState.RECEIVING)
    key = search_key(SearchAttribute.ACCESSION_NUMBER, ACCESSION.encode(), spool.patient_secret())
    ledger.record_instance(
        instance(4, series_instance_uid="1.2.4", study_instance_uid="1.9.4", accession_key=key),
        CompletionSettings(),
    )
    for event in (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT, SeriesEvent.WORK_FAILED):
        ledger.advance("1.2.4", event, START)
    psoas("replay", *arguments, "--dry-run", "--json")
    found = plans(shown)
    assert sorted(found) == chosen
    assert found.get("1.2.3", "not_ended") == "not_ended"


@pytest.mark.usefixtures("ledger")
def test_replay_of_everything_must_be_asked_for(psoas: Psoas) -> None:
    assert psoas("replay") == 2
    assert psoas("replay", "1.2", "--no-delivery") == 2


def test_silent_replay_changes_no_series(
    psoas: Psoas, shown: Shown, ledger: Ledger, tmp_path: Path
) -> None:
    key = installed(psoas, shown, write_tiny_model(tmp_path / "model"))
    uid = put_series(ledger, 1, SeriesState.DELIVERED)
    before = ledger.series(uid), ledger.history(uid)
    assert psoas("replay", uid, "--model", key, "--no-delivery", "--json") == 0
    assert plans(shown) == {uid: "silent"}
    assert (ledger.series(uid), ledger.history(uid)) == before
    (run,) = ledger.shadows.of_series(uid)
    assert (run.model, run.state.value) == (key, "waiting")


def test_report_compares_shadows_with_what_was_reported(
    psoas: Psoas, shown: Shown, ledger: Ledger, tmp_path: Path
) -> None:
    key = "candidate-1-0a1b2c3d"
    areas = [(150.0, 152.0), (120.0, 118.0), (140.0, 146.0)]
    for number, (active, shadow) in enumerate(areas, start=1):
        uid = put_series(ledger, number, SeriesState.DELIVERED)
        ledger.results.record(measured_by(uid, "a" * 64, active), START)
        ledger.shadows.ask((uid, 1, key), "settings", START)
        silent = dict(measured_by(uid, "0a1b2c3d" + "0" * 56, shadow).measurement)
        if number == 3:
            silent["assessment"] = {"verdict": "below", "reason": "lower"}
        ledger.shadows.end((uid, 1, key), START, silent)
    page = tmp_path / "report.html"
    assert psoas("shadow", "report", key, "--out", page, "--json") == 0
    report = shown()
    # Differences 2, -2 and 6: mean 2, standard deviation 4.
    assert report["agreement"]["count"] == 3
    assert report["agreement"]["bias_cm2"] == pytest.approx(2.0)
    assert report["agreement"]["limits_cm2"] == pytest.approx([2 - 1.96 * 4, 2 + 1.96 * 4])
    assert report["changed"] == 1
    text = page.read_text()
    assert text.count("<circle") == 3
    assert "Research use only" in text
    assert "http" not in text
    assert psoas("shadow", "report", "other-1-00000000") == 3


def test_active_models_are_those_that_were_not_withdrawn(ledger: Ledger) -> None:
    models = ledger.models
    models.use(ModelKind.SEGMENTER, "a-1-0", "eve", START)
    models.use(ModelKind.LEVEL_FINDER, "b-1-0", "eve", START)
    models.use(ModelKind.SEGMENTER, "c-1-0", "eve", START)
    assert models.active() == {ModelKind.SEGMENTER: "c-1-0", ModelKind.LEVEL_FINDER: "b-1-0"}
    withdrawn = [models.roll_back("eve", START) for _ in range(4)]
    assert [use and use.model for use in withdrawn] == ["c-1-0", "b-1-0", "a-1-0", None]
    assert models.active() == {}
