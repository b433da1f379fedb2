"""Published layouts, in files made here; what Keras computes with the same weights is golden."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.networks import build_network
from pipeline.networks.classifier import Classifier
from tests.formula_weights import formula_image, formula_state, listing_digest
from tests.training.classify.keras_files import keras_tensors, write_keras_file
from training.classify.keras_layout import KerasLayoutError
from training.classify.published import PublishedBackboneError, read_backbone

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "golden" / "classifier_backbones.json").read_text()
)["keras"]
NAMES = ("densenet121", "inception_resnet_v2", "inception_v3", "resnet50")

# Children of torchvision's models in a row, without their heads.
CHILDREN = {
    "densenet121": "features",
    "resnet50": "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool",
    "inception_v3": "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 "
    "Conv2d_4a_3x3 maxpool2 Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d "
    "Mixed_6e Mixed_7a Mixed_7b Mixed_7c avgpool",
}


def build(name: str, **arguments: object) -> Classifier:
    network = build_network(name, arguments)
    assert isinstance(network, Classifier)
    return network.eval()


def torchvision_state(name: str) -> dict[str, Tensor]:
    """State under the names of torchvision or timm."""
    state = formula_state(build(name).backbone)
    return {key.replace(".layers.", "."): value for key, value in state.items()}


def radimagenet_state(name: str) -> dict[str, Tensor]:
    children = CHILDREN[name].split()
    named = {}
    for key, value in torchvision_state(name).items():
        child, rest = key.split(".", 1)
        named[f"backbone.{children.index(child)}.{rest}"] = value
    return named


def filled(name: str, path: Path) -> Classifier:
    published = read_backbone(path, name)
    network = build(name, **published.arguments)
    network.backbone.load_state_dict(dict(published.state))
    return network


def same_backbone(network: Classifier, expected: dict[str, Tensor]) -> bool:
    state = network.backbone.state_dict()
    found = {key.replace(".layers.", "."): value for key, value in state.items()}
    return found.keys() == expected.keys() and all(
        torch.equal(found[k], expected[k]) for k in found
    )


@pytest.mark.parametrize("name", sorted(CHILDREN))
def test_radimagenet_file_of_pytorch_fills_every_tensor(name: str, tmp_path: Path) -> None:
    stored = radimagenet_state(name)
    assert len(stored) == {"densenet121": 725, "inception_v3": 564, "resnet50": 318}[name]
    head = {"fc.weight": torch.zeros(165, 8), "fc.bias": torch.zeros(165)}
    torch.save(
        {f"module.{key}": value for key, value in (stored | head).items()}, tmp_path / "f.pt"
    )
    assert same_backbone(filled(name, tmp_path / "f.pt"), torchvision_state(name))
    assert read_backbone(tmp_path / "f.pt", name).layout == "radimagenet"


def _torch_file(path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"state_dict": state, "epoch": 3}, path)


def _safetensors_file(path: Path, state: dict[str, Tensor]) -> None:
    save_file({key: value.contiguous() for key, value in state.items()}, path)


@pytest.mark.parametrize(
    ("name", "file", "write", "arguments"),
    [
        ("resnet50", "a.pth", _torch_file, {"scaling": "imagenet"}),
        ("densenet121", "a.safetensors", _safetensors_file, {"scaling": "imagenet"}),
        ("inception_v3", "a.pth", _torch_file, {}),
        ("inception_resnet_v2", "a.safetensors", _safetensors_file, {}),
    ],
)
def test_imagenet_file_of_torchvision_or_timm_fills_every_tensor(
    name: str, file: str, write: Callable[..., None], arguments: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path / file, torchvision_state(name))
    assert same_backbone(filled(name, tmp_path / file), torchvision_state(name))
    assert read_backbone(tmp_path / file, name).arguments == arguments


def test_densenet_file_of_2017_is_read(tmp_path: Path) -> None:
    state = torchvision_state("densenet121")
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.").replace(".conv2.", ".conv.2."): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }  # fmt: skip
    torch.save(old, tmp_path / "old.pth")
    assert same_backbone(filled("densenet121", tmp_path / "old.pth"), state)


@pytest.mark.parametrize("name", NAMES)
def test_file_of_keras_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    golden = GOLDEN[name]
    tensors = keras_tensors(name, build(name).backbone)
    assert len(tensors) == golden["tensors"]
    assert listing_digest(sorted(tensors)) == golden["sha256"]
    network = filled(name, write_keras_file(tmp_path / "f.h5", tensors, whole=True))
    with torch.inference_mode():
        features = network.backbone(torch.from_numpy(formula_image()))[0].double().numpy()
    assert features[:6] == pytest.approx(golden["features"], rel=1e-4, abs=1e-4)
    assert features.sum() == pytest.approx(golden["sum"], rel=1e-4)


@pytest.mark.parametrize("name", ["inception_v3", "densenet121"])
def test_file_of_weights_alone_of_tensorflow_2_after_other_models_is_the_same(
    name: str, tmp_path: Path
) -> None:
    backbone = build(name).backbone
    now, then = (keras_tensors(name, backbone, first) for first in (0, 1000))
    first = read_backbone(write_keras_file(tmp_path / "a.h5", now, whole=True), name).state
    second = read_backbone(
        write_keras_file(tmp_path / "b.h5", then, whole=False, old=True), name
    ).state
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_biases_of_keras_go_into_the_running_means(tmp_path: Path) -> None:
    tensors = keras_tensors("resnet50", build("resnet50").backbone)
    state = read_backbone(
        write_keras_file(tmp_path / "a.h5", tensors, whole=True), "resnet50"
    ).state
    with h5py.File(tmp_path / "a.h5") as file:
        layers = file["model_weights"]
        bias = layers["conv3_block1_0_conv/conv3_block1_0_conv/bias"][:]
        mean = layers["conv3_block1_0_bn/conv3_block1_0_bn/moving_mean"][:]
    assert torch.equal(state["layer2.0.downsample.1.running_mean"], torch.from_numpy(mean - bias))
    assert not any(key.endswith("conv1.bias") for key in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer4.2.conv3.weight"), r"in 1 tensors, such as layer4\.2"),
        (lambda state: state.update(extra=torch.zeros(1)), "such as extra"),
        (lambda state: state.update({"bn1.weight": torch.zeros(65)}), "such as bn1.weight"),
        (lambda state: state.update({"conv1.bias": torch.zeros(64)}), "converted from Keras"),
        (lambda state: state.update({"backbone.9.x": torch.zeros(1)}), "nothing of RadImageNet"),
    ],
)
def test_file_that_does_not_fit_is_refused_by_name(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    state = torchvision_state("resnet50")
    change(state)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(PublishedBackboneError, match=message):
        read_backbone(tmp_path / "odd.pt", "resnet50")


def test_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(radimagenet_state("resnet50"), tmp_path / "r.pt")
    with pytest.raises(PublishedBackboneError):
        read_backbone(tmp_path / "r.pt", "inception_v3")
    keras = keras_tensors("resnet50", build("resnet50").backbone)
    write_keras_file(tmp_path / "r.h5", keras, whole=True)
    with pytest.raises(KerasLayoutError, match="0 layers called conv2d"):
        read_backbone(tmp_path / "r.h5", "inception_v3")
    with pytest.raises(PublishedBackboneError, match="is no classifier"):
        read_backbone(tmp_path / "r.pt", "smit_test")


def test_weights_of_keras_3_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "k.weights.h5", "w") as file:
        file.create_group("layers")
    with pytest.raises(KerasLayoutError, match="Keras 3"):
        read_backbone(tmp_path / "k.weights.h5", "resnet50")
