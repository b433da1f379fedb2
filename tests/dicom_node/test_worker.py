import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import MeasurementSettings, WorkerSettings
from dicom_node.errors import SpoolError
from dicom_node.outcomes import OutcomeKind
from dicom_node.spool import Spool, WorkOrder
from dicom_node.worker import WorkerContext, make_context, measure
from pipeline.errors import ModelError, TooFewSlicesError, UnreadableFileError

QUEUED_AT = datetime(2026, 1, 2, 10, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> WorkerContext:
    return make_context(
        Spool(tmp_path_factory.mktemp("spool")), WorkerSettings(device="cpu"), MeasurementSettings()
    )


def put_series(context: WorkerContext, source: Path, *, slices: int | None = None) -> str:
    """Put a series into the spool with a work order for it."""
    paths = []
    for path in sorted(source.glob("*.dcm"))[:slices]:
        relative = Path("instances", path.name)
        context.spool.path(relative).parent.mkdir(exist_ok=True)
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
    with pytest.raises(ModelError):
        make_context(
            Spool(tmp_path), WorkerSettings(segmenter=tmp_path / "none"), MeasurementSettings()
        )
