"""Weights change while a node works: the next series gets them, and a replay makes new versions."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_node.ledger_shadows import ShadowState
from dicom_node.model_install import install_model
from dicom_node.records import SeriesState
from dicom_node.spool import Spool
from pipeline.weights import MODELS_FOLDER, SEGMENTER
from tests.system.running_node import SETTINGS, RunningNode, running_node, wait_until

pytestmark = [*(pytest.mark.network, pytest.mark.redis, pytest.mark.slow), pytest.mark.timeout(900)]


def installed(folder: Path, version: str, threshold: float) -> str:
    """Install the shipped weights under another version and threshold; return their key."""
    source = folder / version
    shutil.copytree(MODELS_FOLDER / SEGMENTER, source)
    manifest = json.loads((source / "manifest.json").read_text())
    extra = manifest["extra"] | {"threshold": threshold}
    (source / "manifest.json").write_text(
        json.dumps(manifest | {"version": version, "extra": extra})
    )
    spool = Spool(folder / "node" / "spool")
    return install_model(source, spool, datetime(2026, 1, 1, tzinfo=UTC)).key


def reports(node: RunningNode) -> list[Dataset]:
    """Every report that the PACS has, the first one first."""
    received = list(node.pacs.received.values())
    return [one for one in received if one.SOPClassUID == Comprehensive3DSRStorage]


def test_weights_are_switched_compared_and_replayed_under_way(
    tmp_path: Path, demo_series: Path
) -> None:
    other = installed(tmp_path, "other", 0.4)
    settings = SETTINGS + f'[shadow]\nmodels = ["{other}"]\n'
    with running_node(tmp_path, settings_text=settings) as node:
        uid = node.send(demo_series)
        node.wait_for(uid, SeriesState.DELIVERED)
        (first,) = reports(node)
        # Beside the weights in use, the other ones measure without a word to the PACS.
        sent = set(node.pacs.received)

        def compared() -> bool:
            runs = node.ledger.shadows.of_series(uid)
            return [run.state for run in runs] == [ShadowState.MEASURED]

        wait_until(compared, "silent measurement")
        assert set(node.pacs.received) == sent
        report = node.psoas("shadow", "report", other, "--json")
        assert report.returncode == 0, report.stderr
        assert json.loads(report.stdout)["agreement"]["count"] == 1
        # No process is started again.
        assert node.psoas("model", "use", other).returncode == 0
        assert node.psoas("replay", uid).returncode == 0
        wait_until(lambda: len(reports(node)) == 2, "second report")
        node.wait_for(uid, SeriesState.DELIVERED)
        second = next(r for r in reports(node) if r.SOPInstanceUID != first.SOPInstanceUID)
        (study,) = second.PredecessorDocumentsSequence
        (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
        entries = node.ledger.results.of_series(uid)
        assert [entry.measurement["model"]["version"] for entry in entries][-1] == "other"
        silent = node.ledger.shadows.of_series(uid)[0].measurement
        area = entries[-1].measurement["skeletal_muscle_area_cm2"]
        assert silent["skeletal_muscle_area_cm2"] == area
        assert node.psoas("model", "rollback").returncode == 0
        assert node.ledger.models.active() == {}
