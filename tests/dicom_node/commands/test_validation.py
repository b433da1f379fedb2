"""``psoas validate`` asks the training code for what the node runs."""

from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.commands.validation import words_of_node
from dicom_node.config import load_settings
from dicom_node.ledger import Ledger
from dicom_node.model_store import ModelKind

SETTINGS = """
[storage]
folder = "node"
[worker]
device = "cpu"
segmenter = "models/own"
[measurement]
cutoffs = "derstine2018_sma"
"""


def test_models_and_cutoffs_of_the_settings_are_validated(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(SETTINGS)
    own = str(tmp_path / "models" / "own")
    assert words_of_node(config) == [
        *("--segmenter", own, "--device", "cpu", "--cutoffs", "derstine2018_sma")
    ]


def test_model_that_was_put_to_use_is_validated(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(SETTINGS)
    (tmp_path / "node").mkdir()
    settings = load_settings(config)
    ledger = Ledger.open(settings.ledger_url)
    ledger.models.use(ModelKind.SEGMENTER, "better-2", "anna", datetime(2026, 1, 2, tzinfo=UTC))
    ledger.close()
    words = words_of_node(config)
    assert words[0] == "--segmenter"
    assert Path(words[1]).name == "better-2"


def test_folder_without_drawings_fails_with_the_reason(tmp_path: Path, demo_series: Path) -> None:
    words = ["validate", str(demo_series), "--out", str(tmp_path / "report")]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert not (tmp_path / "report").exists()
