"""Backbones against torchvision and timm, which computed ``tests/golden`` with the same weights."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.networks import build_network
from pipeline.networks.classifier import CLASSES, Classifier
from tests.formula_weights import formula_image, formula_tensor, listing_digest

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "classifier_backbones.json").read_text()
)["torch"]
NAMES = ("densenet121", "inception_resnet_v2", "inception_v3", "resnet50")

# With a head for 1,000 classes, as the papers and libraries count.
PARAMETERS = {
    "densenet121": 7_978_856,
    "inception_resnet_v2": 55_843_464,
    "inception_v3": 23_834_568,
    "resnet50": 25_557_032,
}


def build(name: str, **arguments: object) -> Classifier:
    network = build_network(name, arguments)
    assert isinstance(network, Classifier)
    return network.eval()


def published_name(network: str, name: str) -> str:
    """Name in torchvision; MONAI puts the layers of a dense layer one level deeper."""
    return name.replace(".layers.", ".") if network == "densenet121" else name


@pytest.mark.parametrize("name", NAMES)
def test_backbone_has_the_published_tensors_and_computes_what_the_reference_computes(
    name: str,
) -> None:
    golden: dict[str, Any] = GOLDEN[name]
    backbone = build(name).backbone
    state = {
        published_name(name, key): (key, value) for key, value in backbone.state_dict().items()
    }
    assert len(state) == golden["tensors"]
    assert (
        listing_digest((key, tuple(v.shape)) for key, (_, v) in state.items()) == golden["sha256"]
    )
    filled = {
        own: torch.from_numpy(formula_tensor(key, tuple(value.shape)))
        if value.is_floating_point()
        else value
        for key, (own, value) in state.items()
    }
    backbone.load_state_dict(filled)
    with torch.inference_mode():
        features = backbone(torch.from_numpy(formula_image()))[0].double().numpy()
    assert features[:6] == pytest.approx(golden["features"], rel=1e-4, abs=1e-4)
    assert features.sum() == pytest.approx(golden["sum"], rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_backbone_has_the_published_size(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, {})
    backbone, head = network.get_submodule("backbone"), network.get_submodule("head")
    assert isinstance(head, nn.Linear)
    of_a_thousand_classes = 1000 * (head.in_features + 1)
    assert parameters(backbone) + of_a_thousand_classes == PARAMETERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_a_backbone_lies_in_one_block_that_can_be_unfrozen(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, {})
    assert isinstance(network, Classifier)
    blocks = [module for block in network.blocks for module in block]
    found = sum(parameters(network.backbone.get_submodule(block)) for block in blocks)
    assert found == parameters(network.backbone)
    order = [name for name, _ in network.backbone.named_modules()]
    assert [order.index(block) for block in blocks] == sorted(order.index(b) for b in blocks)


@pytest.mark.parametrize(
    ("side", "sides"),
    [
        # Szegedy et al. 2016, table 1: 35, 17 and 8 for an image of 299.
        (299, {"Mixed_5b": 35, "Mixed_5d": 35, "Mixed_6a": 17, "Mixed_6e": 17, "Mixed_7c": 8}),
        (75, {"Mixed_5d": 7, "Mixed_6e": 3, "Mixed_7c": 1}),
    ],
)
def test_maps_of_inception_have_the_sides_of_the_paper(side: int, sides: dict[str, int]) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    backbone = build("inception_v3").backbone
    for name in sides:
        backbone.get_submodule(name).register_forward_hook(
            lambda *a, name=name: seen.update({name: tuple(a[2].shape[2:])})
        )
    with torch.inference_mode():
        backbone(torch.zeros(1, 3, side, side))
    assert seen == {name: (length, length) for name, length in sides.items()}


def test_network_sees_the_slice_as_a_radiologist_does() -> None:
    network = build("resnet50")
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 60, 62] = 1.0  # far to the patient's right, far to the front
    with torch.inference_mode():
        network(image)
    assert seen[0].shape == (1, 3, 64, 64)
    # Radiological convention: the patient's right on the left, the front above.
    assert np.unravel_index(int(seen[0][0, 0].argmax()), (64, 64)) == (1, 3)
    assert float(seen[0].min()) == -1.0
    assert float(seen[0].max()) == 1.0


def test_scaling_of_imagenet_is_its_mean_and_deviation() -> None:
    network = build("resnet50", scaling="imagenet")
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        assert network(torch.full((1, 1, 64, 64), 0.485)).shape == (1, len(CLASSES))
    assert seen[0][0, :, 0, 0] == pytest.approx(
        [0.0, (0.485 - 0.456) / 0.224, (0.485 - 0.406) / 0.225]
    )


def test_unknown_scaling_is_refused() -> None:
    with pytest.raises(ModelError, match=re.escape("scaling 'grey' is none of imagenet")):
        build_network("resnet50", {"scaling": "grey"})


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())
