import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from pipeline.preprocess import PreprocessSpec, prepare
from tests.phantoms import TorsoPhantom
from tests.training.intake.drawings import write_nifti
from training.__main__ import main
from training.data import read_labelled, sample
from training.unlabelled import read_unlabelled

PHANTOM = TorsoPhantom(shape=(2, 96, 96), pixel_mm=4.0)


def _write_pair(folder: Path, name: str, muscle: np.ndarray) -> None:
    write_nifti(folder / "images" / f"{name}.nii.gz", PHANTOM.volume(), PHANTOM.hu)
    write_nifti(folder / "labels" / f"{name}.nii.gz", PHANTOM.volume(), muscle.astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of a sound case and of one whose labels are upside down."""
    turned = np.roll(PHANTOM.muscle_mask(), 6, axis=1)
    _write_pair(tmp_path / "in", "sound", PHANTOM.muscle_mask())
    _write_pair(tmp_path / "in", "spoilt", turned)
    main(["import", str(tmp_path / "in"), "--layout", "nifti", "--out", str(tmp_path / "data")])
    return tmp_path / "data"


def test_sound_cases_are_listed_and_suspects_named(data: Path) -> None:
    assert len(tomllib.loads((data / "cases.toml").read_text())["case"]) == 1
    (finding,) = json.loads((data / "findings.json").read_text())
    assert finding["code"] == "SHIFTED"
    assert "1 with findings" in (data / "findings.md").read_text()
    assert len(read_unlabelled(data, data / "unlabelled.toml").volumes) == 2


def test_training_reads_mapped_volumes_as_serving_would_see_them(data: Path) -> None:
    slices = read_labelled(data, data / "cases.toml")
    assert isinstance(slices[0].volume.hu, np.memmap)
    assert [one.slice_index for one in slices] == [0, 1]
    trained = sample(slices[0], PreprocessSpec())
    assert np.array_equal(trained.image, prepare(PHANTOM.volume(), 0, PreprocessSpec()).image)


def test_files_that_have_not_changed_are_not_read_again(data: Path, tmp_path: Path) -> None:
    states = {p: p.stat().st_mtime_ns for p in (data / "volumes").glob("*.npy")}
    _write_pair(tmp_path / "in", "spoilt", PHANTOM.muscle_mask())
    main(["import", str(tmp_path / "in"), "--layout", "nifti", "--out", str(data)])
    rewritten = {p for p, state in states.items() if p.stat().st_mtime_ns != state}
    assert len(rewritten) == 1
    assert len(tomllib.loads((data / "cases.toml").read_text())["case"]) == 2


def test_check_fails_when_labels_were_moved_later(data: Path) -> None:
    main(["check", str(data)])
    (case,) = tomllib.loads((data / "cases.toml").read_text())["case"]
    path = data / case["labels"]
    np.save(path, np.roll(np.load(path), 6, axis=1))
    with pytest.raises(SystemExit):
        main(["check", str(data)])
