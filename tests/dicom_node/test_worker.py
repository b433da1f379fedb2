import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.background import Background
from dicom_node.config import DestinationSettings, NodeSettings, StorageSettings, WorkerSettings
from dicom_node.errors import SettingsError, SpoolError
from dicom_node.lineage import version_of
from dicom_node.model_install import install_model
from dicom_node.outcomes import OutcomeKind
from dicom_node.work_order import WorkOrder
from dicom_node.worker import WorkerContext, make_context, measure, measure_silently
from pipeline.analyze import Models
from pipeline.errors import (
    LevelNotCoveredError,
    ModelError,
    PixelDataError,
    TooFewSlicesError,
    UnreadableFileError,
)
from pipeline.types import AnatomicLevel, CTVolume, ModelIdentity
from pipeline.weights import MODELS_FOLDER, SEGMENTER
from tests.models import write_tiny_classifier
from tests.reader import values_of

QUEUED_AT = datetime(2026, 1, 2, 10, 0, tzinfo=UTC)


def settings(folder: Path, *objects: str) -> NodeSettings:
    destinations = [
        DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=104, objects=objects
        )
    ]
    return NodeSettings(
        storage=StorageSettings(folder=folder),
        worker=WorkerSettings(device="cpu"),
        destinations=tuple(destinations if objects else ()),
    )


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> WorkerContext:
    return make_context(settings(tmp_path_factory.mktemp("node")))


def put_series(context: WorkerContext, source: Path, *, slices: int | None = None) -> str:
    """Put a series into the spool with a work order for it."""
    paths = []
    for path in sorted(source.glob("*.dcm"))[:slices]:
        relative = Path("instances", path.name)
        context.spool.path(relative).parent.mkdir(parents=True, exist_ok=True)
        context.spool.path(relative).write_bytes(path.read_bytes())
        paths.append(relative)
    uid = str(dcmread(source / "slice_00.dcm", stop_before_pixels=True).SeriesInstanceUID)
    context.spool.put_work(uid, 1, WorkOrder(tuple(paths), QUEUED_AT, 1))
    return uid


@pytest.mark.slow
def test_work_that_is_repeated_writes_the_same_bytes(
    context: WorkerContext, demo_series: Path
) -> None:
    uid = put_series(context, demo_series)
    first = measure(uid, 1, context)
    contents = [context.spool.path(result.path).read_bytes() for result in first.results]
    second = measure(uid, 1, context)
    assert first == second
    assert contents == [context.spool.path(result.path).read_bytes() for result in second.results]


@pytest.mark.slow
def test_results_are_what_the_outcome_says(context: WorkerContext, demo_series: Path) -> None:
    outcome = measure(put_series(context, demo_series), 1, context)
    assert outcome.kind is OutcomeKind.MEASURED
    assert [result.path.name for result in outcome.results] == [
        *("seg.dcm", "sr.dcm", "key_image.dcm")
    ]
    for result in outcome.results:
        dataset = dcmread(context.spool.path(result.path))
        assert dataset.SOPInstanceUID == result.sop_instance_uid
        assert dataset.SOPClassUID == result.sop_class_uid
        assert dataset.file_meta.TransferSyntaxUID == result.transfer_syntax_uid
    assert json.loads(json.dumps(outcome.measurement))["status"] == "measured"


def test_series_that_is_not_for_us_is_refused(context: WorkerContext, demo_series: Path) -> None:
    uid = put_series(context, demo_series, slices=3)
    with pytest.raises(TooFewSlicesError):
        measure(uid, 1, context)


def broken_off(context: WorkerContext) -> None:
    path = context.spool.path(Path("instances", "slice_05.dcm"))
    path.write_bytes(path.read_bytes()[:-1000])


def without_pixels(context: WorkerContext) -> None:
    path = context.spool.path(Path("instances", "slice_05.dcm"))
    image = dcmread(path)
    del image.PixelData
    image.save_as(path)


def cut_in_its_header(context: WorkerContext) -> None:
    path = context.spool.path(Path("instances", "slice_05.dcm"))
    path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize("damage", [broken_off, without_pixels, cut_in_its_header])
def test_series_that_cannot_be_read_is_reported_to_those_who_ask_for_it(
    damage: Callable[[WorkerContext], None], context: WorkerContext, demo_series: Path
) -> None:
    uid = put_series(context, demo_series)
    damage(context)
    with pytest.raises((UnreadableFileError, PixelDataError)):
        measure(uid, 1, context)
    outcome = measure(uid, 1, replace(context, outputs=("seg", "not_analysed")))
    assert outcome.kind is OutcomeKind.QUARANTINED
    (result,) = outcome.results
    report = dcmread(context.spool.path(result.path))
    assert report.StudyInstanceUID == dcmread(demo_series / "slice_00.dcm").StudyInstanceUID
    assert outcome.reason is not None
    assert any(outcome.reason.message in said for said in values_of(report, "TextValue"))


def test_image_that_vanished_is_named(context: WorkerContext, demo_series: Path) -> None:
    uid = put_series(context, demo_series)
    order = WorkOrder((Path("instances/gone.dcm"),), QUEUED_AT, 2)
    context.spool.put_work(uid, 2, order)
    with pytest.raises(UnreadableFileError, match=r"gone\.dcm"):
        measure(uid, 2, context)


def test_work_without_an_order_is_refused(context: WorkerContext) -> None:
    with pytest.raises(SpoolError, match="work order"):
        measure("9.9", 1, context)


def test_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    wrong = settings(tmp_path).model_copy(
        update={"worker": WorkerSettings(segmenter=tmp_path / "none")}
    )
    with pytest.raises(ModelError):
        make_context(wrong)


def test_object_that_nobody_can_make_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no object is called seggs; there are seg, sr"):
        make_context(settings(tmp_path, "sr", "seggs"))


@pytest.mark.slow
def test_only_what_destinations_ask_for_is_made(context: WorkerContext, demo_series: Path) -> None:
    uid = put_series(context, demo_series)
    outcome = measure(uid, 1, replace(context, outputs=("rtstruct", "not_analysed", "sr")))
    assert [result.path.stem for result in outcome.results] == ["rtstruct", "sr"]


@pytest.mark.slow
def test_classifier_of_the_settings_gives_its_opinion_and_disagreement_is_flagged(
    context: WorkerContext, demo_series: Path, tmp_path: Path
) -> None:
    uid = put_series(context, demo_series)
    verdict = measure(uid, 1, context).measurement["assessment"]["verdict"]
    contrary = (0.0, 50.0) if verdict == "above_cutoff" else (50.0, 0.0)
    folder = write_tiny_classifier(tmp_path / "classifier", contrary)
    worker = WorkerSettings(device="cpu", classifier=folder)
    advised = make_context(settings(tmp_path).model_copy(update={"worker": worker})).models
    outcome = measure(uid, 1, replace(context, models=advised))
    found = outcome.measurement["second_opinion"]
    assert found["low"] == (verdict == "above_cutoff")
    assert found["model"]["name"] == "tiny_classifier"
    assert verdict in {"above_cutoff", "below_cutoff"}
    assert outcome.measurement["assessment"]["verdict"] == verdict
    assert "CLASSIFIER_DISAGREES" in {flag["code"] for flag in outcome.measurement["quality"]}
    assert outcome.entry is not None
    assert outcome.entry.version != version_of(context.models, context.cutoffs, None)


def test_classifier_of_a_work_order_is_asked_without_a_restart(
    context: WorkerContext, tmp_path: Path
) -> None:
    spool = context.spool
    installed = install_model(write_tiny_classifier(tmp_path / "c"), spool, QUEUED_AT)
    order = WorkOrder((Path("unread.dcm"),), QUEUED_AT, 1, classifier=installed.key)
    spool.put_work("1.2.77", 1, order)
    assert spool.read_work("1.2.77", 1) == order
    ordered = context.with_models_of(order).models
    assert ordered.segmenter is context.models.segmenter
    assert ordered.classifier is not None
    assert ordered.classifier.identity.sha256 == installed.sha256
    assert version_of(ordered, context.cutoffs, None) != version_of(
        context.models, context.cutoffs, None
    )
    # The next order without one gives no opinion.
    assert context.with_models_of(replace(order, classifier="")).models.classifier is None


@dataclass(frozen=True)
class Lost:
    """A finder that never finds the level."""

    models: tuple[ModelIdentity, ...] = ()

    def find(self, volume: CTVolume) -> AnatomicLevel:
        raise LevelNotCoveredError(f"{volume.hu.shape[0]} slices end above L3")


def test_series_without_l3_is_reported_to_those_who_ask_for_it(
    context: WorkerContext, demo_series: Path
) -> None:
    uid = put_series(context, demo_series)
    blind = replace(context, models=Models(context.models.segmenter, Lost()))
    with pytest.raises(LevelNotCoveredError):
        measure(uid, 1, blind)
    outcome = measure(uid, 1, replace(blind, outputs=("seg", "not_analysed")))
    assert outcome.kind is OutcomeKind.SKIPPED
    assert outcome.reason is not None
    assert outcome.reason.code == "L3_NOT_COVERED"
    (report,) = outcome.results
    assert dcmread(context.spool.path(report.path)).SOPInstanceUID == report.sop_instance_uid
    assert measure(uid, 1, replace(blind, outputs=("not_analysed",))).results == (report,)


def test_series_that_nobody_waits_for_is_not_reported(
    context: WorkerContext, demo_series: Path
) -> None:
    uid = put_series(context, demo_series, slices=3)
    with pytest.raises(TooFewSlicesError):
        measure(uid, 1, replace(context, outputs=("not_analysed",)))


def other_segmenter(context: WorkerContext, folder: Path) -> str:
    """Install the shipped weights once more, under a threshold and a version of their own."""
    shutil.copytree(MODELS_FOLDER / SEGMENTER, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"version": "other", "extra": manifest["extra"] | {"threshold": 0.4}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return install_model(folder, context.spool, QUEUED_AT).key


@pytest.mark.slow
def test_another_model_makes_new_versions_that_name_the_ones_before_or_none_at_all(
    context: WorkerContext, demo_series: Path, tmp_path: Path
) -> None:
    uid = put_series(context, demo_series)
    first = measure(uid, 1, context)
    contents = [context.spool.path(result.path).read_bytes() for result in first.results]
    key = other_segmenter(context, tmp_path / "other")
    order = context.spool.read_work(uid, 1)
    context.spool.put_work(uid, 1, replace(order, segmenter=key))
    assert first.entry is not None
    background = Background(uid, earlier=(first.entry,))
    context.spool.put_background(uid, 1, background.to_json())
    second = measure(uid, 1, context)
    assert second.measurement["model"]["version"] == "other"
    assert second.measurement["skeletal_muscle_area_cm2"] != pytest.approx(
        first.measurement["skeletal_muscle_area_cm2"], abs=1e-6
    )
    old, new = (outcome.results[1] for outcome in (first, second))
    assert old.sop_instance_uid != new.sop_instance_uid
    report = dcmread(context.spool.path(new.path))
    (study,) = report.PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == old.sop_instance_uid
    # What a PACS may still have to get stays as it was.
    assert contents == [context.spool.path(result.path).read_bytes() for result in first.results]
    context.spool.put_work(uid, 1, replace(order, segmenter=key), shadow=key)
    before = set(context.spool.result_files(uid))
    silent = measure_silently(uid, 1, key, context)
    assert (silent.kind, silent.results, silent.entry) == (OutcomeKind.MEASURED, (), None)
    assert silent.measurement["model"] == second.measurement["model"]
    assert set(context.spool.result_files(uid)) == before
