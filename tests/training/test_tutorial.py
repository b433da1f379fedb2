"""The tutorial of training/README.md, command by command, on tiny data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.level.given import GivenSlice
from pipeline.segment import segment
from pipeline.weights import load_model
from tests.phantoms import TorsoPhantom
from tests.training.intake.drawings import write_seg
from training.__main__ import main
from training.split import read_split

PHANTOM = TorsoPhantom(shape=(3, 64, 64), pixel_mm=6.0)

PRETRAIN = """
name = "tiny_ssl"
network = "smit_test"
steps = 2
batch = 2
region = 96
crop = 64
hidden = 16
bottleneck = 8
prototypes = 32
picture_steps = 1
"""
FINETUNE = """
name = "tiny"
network = "smit_test"
epochs = 0.2
batch = 2
validation_steps = 1
picture_steps = 1
"""


def _write_patients(folder: Path, count: int) -> None:
    """Series with a SEG each, as a PACS hands them out: one folder for each patient."""
    for number in range(count):
        phantom = replace(
            PHANTOM, fat_mm=14.0 + 2 * number, sex="MF"[number % 2], lowest_z_mm=-350.0 - number
        )
        place = folder / f"patient_{number}"
        paths = phantom.write_series(place / "ct")
        write_seg(place / "seg.dcm", phantom)
        for path in [*paths, place / "seg.dcm"]:
            _give_identity(path, f"ID{number}")


def _give_identity(path: Path, patient_id: str) -> None:
    from pydicom import dcmread

    dataset = dcmread(path)
    dataset.PatientID = patient_id
    dataset.save_as(path)


@pytest.mark.slow
def test_ten_folders_become_weights_that_the_node_loads(tmp_path: Path) -> None:
    source, data, runs = tmp_path / "pulled", tmp_path / "data", tmp_path / "runs"
    _write_patients(source, 10)
    for name, content in (("pretrain", PRETRAIN), ("finetune", FINETUNE)):
        (tmp_path / f"{name}.toml").write_text(content)

    main(["import", str(source), "--layout", "dicom", "--out", str(data)])
    main(["check", str(data)])
    main(["split", str(data)])
    parts = read_split(data / "split.json")
    assert sorted(len(patients) for patients in parts.values()) == [2, 2, 6]

    common = ["--data", str(data), "--device", "cpu"]
    images = ["--images", str(data / "unlabelled.toml")]
    main(
        ["pretrain", str(tmp_path / "pretrain.toml"), *common, *images, "--out", str(runs / "ssl")]
    )
    main(
        ["finetune", str(tmp_path / "finetune.toml"), *common, "--cases", str(data / "cases.toml"),
         "--split", str(data / "split.json"), "--pretrained", str(runs / "ssl"),
         "--out", str(runs / "own")]
    )  # fmt: skip
    main(
        ["export", str(runs / "own"), "--out", str(tmp_path / "model"), "--name", "own",
         "--version", "1", "--threshold", "0.45", "--cases", str(data / "cases.toml")]
    )  # fmt: skip

    run = json.loads((runs / "own" / "run.json").read_text())
    assert run["patients"] == {"trained_on": 6, "slices": 18}
    assert "ID3" not in (data / "cases.toml").read_text() + (runs / "own" / "run.json").read_text()
    assert list((runs / "own" / "pictures").glob("*.png"))
    assert "# own 1:" in (tmp_path / "model" / "MODEL_CARD.md").read_text()

    model = load_model(tmp_path / "model", torch.device("cpu"))
    volume = PHANTOM.volume()
    level = GivenSlice(volume.sources[1].sop_instance_uid).find(volume)
    assert segment(model, volume, level).mask.labels.shape == (1, 64, 64)
