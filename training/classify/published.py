"""Published weights as the start of a classifier: RadImageNet's, ImageNet's, in torch or Keras.

========================  =====================================================================
layout                    how it is recognised
========================  =====================================================================
RadImageNet, PyTorch      ``backbone.INDEX.``: children of torchvision's model in a row
torchvision               names of torchvision (``features.``, ``layer1.``, ``Mixed_5b.``)
timm                      names of timm, Inception-ResNet V2 only
Keras                     HDF5, see ``training.classify.keras_layout``
========================  =====================================================================

Heads are left away. Every tensor of the backbone must be filled and every other one be known:
nothing is skipped silently.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.networks import build_network
from pipeline.networks.classifier import Classifier
from training.classify import keras_layout

# Index of a child in RadImageNet's files to torchvision's name; pools and ReLU have no tensors.
_CHILDREN: Final[Mapping[str, Mapping[int, str]]] = {
    "densenet121": {0: "features"},
    "resnet50": {0: "conv1", 1: "bn1", **{i + 3: f"layer{i}" for i in range(1, 5)}},
    "inception_v3": {
        0: "Conv2d_1a_3x3", 1: "Conv2d_2a_3x3", 2: "Conv2d_2b_3x3",
        4: "Conv2d_3b_1x1", 5: "Conv2d_4a_3x3",
        **{7 + i: f"Mixed_5{letter}" for i, letter in enumerate("bcd")},
        **{10 + i: f"Mixed_6{letter}" for i, letter in enumerate("abcde")},
        **{15 + i: f"Mixed_7{letter}" for i, letter in enumerate("abc")},
    },
}  # fmt: skip
_HEAD: Final = re.compile(r"^(fc|classifier|classif|last_linear|head|AuxLogits)\.")
_CONTAINERS: Final = ("state_dict", "model", "net")
_PREFIX: Final = "backbone."


class PublishedBackboneError(ValueError):
    """A file does not hold the backbone that was asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class PublishedBackbone:
    """What a published file holds.

    Parameters
    ----------
    state : Mapping
        For ``load_state_dict`` of the backbone.
    arguments : Mapping
        Of the network that computes with these weights what they were trained for.
    layout : str
    """

    state: Mapping[str, Tensor]
    arguments: Mapping[str, Any]
    layout: str


def read_backbone(path: Path, network: str) -> PublishedBackbone:
    """Read published weights.

    Parameters
    ----------
    path : Path
        HDF5 of Keras, ``torch.save`` of tensors, or safetensors.
    network : str
        ``"densenet121"``, ``"inception_resnet_v2"``, ``"inception_v3"`` or ``"resnet50"``.

    Raises
    ------
    PublishedBackboneError, KerasLayoutError
        If a tensor is missing, has another shape, or belongs to nothing.
    """
    if keras_layout.applies(path):
        arguments = keras_layout.arguments_of(network)
        built = _build(network, arguments)
        state = keras_layout.backbone_state(keras_layout.read_layers(path), network, built.backbone)
        return PublishedBackbone(_checked(path, state, built), arguments, "keras")
    tensors = _read_tensors(path)
    built = _build(network, {})
    radimagenet = any(key.startswith(_PREFIX) for key in tensors)
    named = _by_child(path, tensors, network) if radimagenet else tensors
    state = {_our_name(key, network): v for key, v in named.items() if not _HEAD.match(key)}
    # Google's Inceptions were trained on -1 to 1, whoever converted them.
    imagenet = not radimagenet and not network.startswith("inception")
    return PublishedBackbone(
        _checked(path, state, built),
        {"scaling": "imagenet"} if imagenet else {},
        "radimagenet" if radimagenet else "torchvision or timm",
    )


def _build(network: str, arguments: Mapping[str, Any]) -> Classifier:
    with torch.device("meta"):
        built = build_network(network, arguments)
    if not isinstance(built, Classifier):
        raise PublishedBackboneError(f"{network} is no classifier")
    return built


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise PublishedBackboneError(
            f"{path.name} holds objects besides tensors; save its tensors alone, with "
            "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW), if you trust it"
        ) from error
    for name in _CONTAINERS:
        stored = stored[name] if isinstance(stored.get(name), Mapping) else stored
    tensors = {k.removeprefix("module."): v for k, v in stored.items() if isinstance(v, Tensor)}
    if f"{_PREFIX}0.bias" in tensors or "conv1.bias" in tensors:
        raise PublishedBackboneError(
            f"{path.name} has a bias in its first convolution: it was converted from Keras and "
            "computes something else than its names say; take the .h5 file"
        )
    return tensors


def _by_child(path: Path, tensors: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Turn ``backbone.INDEX.rest`` into torchvision's names."""
    children = _CHILDREN.get(network, {})
    named = {}
    for key, value in tensors.items():
        found = re.fullmatch(r"backbone\.(\d+)\.(.+)", key)
        if found is None:
            named[key] = value
        elif (name := children.get(int(found[1]))) is None:
            raise PublishedBackboneError(f"{path.name}: {key} is nothing of RadImageNet {network}")
        else:
            named[f"{name}.{found[2]}"] = value
    return named


def _our_name(key: str, network: str) -> str:
    if network != "densenet121":
        return key
    # MONAI has one level more; files of 2017 write "norm.1" for "norm1".
    return re.sub(r"(denselayer\d+)\.(norm|relu|conv)\.?(\d)", r"\1.layers.\2\3", key)


def _checked(path: Path, state: Mapping[str, Tensor], built: Classifier) -> dict[str, Tensor]:
    wanted = built.backbone.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    odd = [
        *sorted(set(state) - set(wanted)),
        *sorted(set(wanted) - set(state) - counters),
        *(k for k, v in state.items() if k in wanted and v.shape != wanted[k].shape),
    ]
    if odd:
        raise PublishedBackboneError(
            f"{path.name} does not fit {type(built.backbone).__name__} in {len(odd)} tensors, "
            f"such as {', '.join(odd[:3])}"
        )
    fresh = {key: torch.zeros((), dtype=torch.long) for key in counters}
    return fresh | {k: v if k in counters else v.float() for k, v in state.items()}
