import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import ModelError
from pipeline.preprocess import PreprocessSpec
from pipeline.tissues import Compartment
from pipeline.weights import MODELS_FOLDER, choose_device, load_model
from tests.models import ARGUMENTS, write_tiny_model

CPU = torch.device("cpu")


def test_model_comes_back_as_it_was_written(tmp_path: Path) -> None:
    calibration = {"scores": [2.0, 1.0], "patients": 2}
    extra = {"threshold": 0.4, "calibration": calibration}
    folder = write_tiny_model(tmp_path / "tiny", members=2, extra=extra)
    model = load_model(folder, CPU)
    assert model.spec == PreprocessSpec()
    assert model.threshold == 0.4
    assert model.compartments == tuple(Compartment)
    assert model.calibration is not None
    assert model.calibration.scores == (1.0, 2.0)
    assert len(model.networks) == 2
    assert not any(network.training for network in model.networks)
    assert {p.dtype for network in model.networks for p in network.parameters()} == {torch.float32}


def test_identity_is_the_checksum_of_the_weight_file(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    stored = (folder / "member_0.safetensors").read_bytes()
    assert load_model(folder, CPU).identity.sha256 == hashlib.sha256(stored).hexdigest()


def test_shipped_weights_load_and_stay_small() -> None:
    model = load_model(None, CPU)
    assert model.identity.name == "smit_l3"
    weights = sum(path.stat().st_size for path in MODELS_FOLDER.rglob("*.safetensors"))
    assert weights < 60e6
    card = (MODELS_FOLDER / "smit_l3" / "MODEL_CARD.md").read_text()
    assert f"smit_l3 {model.identity.version}:" in card
    assert "Research use only" in card


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    path = folder / "member_0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="differs from its checksum"):
        load_model(folder, CPU)


def test_missing_weight_file_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "member_0.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(folder, CPU)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere cannot be read"):
        load_model(tmp_path / "nowhere", CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"name": "vnet", "arguments": {}}},
        {"network": {"name": "smit_test", "arguments": {"out_channels": 2}}},
        {"network": {"name": "smit_compact", "arguments": ARGUMENTS}},
        {"network": None},
        {"preprocess": PreprocessSpec().to_dict() | {"orientation": "LPS"}},
        {"files": []},
        {"files": [{"path": "../member_0.safetensors", "sha256": ""}]},
        {"labels": ["muscle"]},
        {"extra": {}},
        {"extra": {"threshold": 1.5}},
        {"extra": {"threshold": 0.4, "calibration": {"scores": ["high"]}}},
    ],
)
def test_manifest_for_other_code_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = write_tiny_model(tmp_path / "tiny", **changes)
    with pytest.raises(ModelError):
        load_model(folder, CPU)


def test_manifest_that_is_not_json_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="malformed"):
        load_model(folder, CPU)


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    replace_weights(folder, content)
    with pytest.raises(ModelError, match="do not fit"):
        load_model(folder, CPU)


def test_weights_with_a_tensor_too_few_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    save_file({"out.conv.conv.bias": torch.zeros(5)}, tmp_path / "part.safetensors")
    replace_weights(folder, (tmp_path / "part.safetensors").read_bytes())
    with pytest.raises(ModelError, match="do not fit"):
        load_model(folder, CPU)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown"):
        choose_device("abacus")
    with pytest.raises(ModelError, match="is not there"):
        choose_device("cuda:99")


def test_device_is_chosen_by_what_there_is() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == CPU


def replace_weights(folder: Path, content: bytes) -> None:
    """Put other bytes in place, with the right checksum."""
    (folder / "member_0.safetensors").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
