"""Weights of Keras applications, in its HDF5 layout, under the names of our backbones.

RadImageNet's ``RadImageNet-NETWORK_notop.h5`` files are of this kind. A file is either written by
``save_weights`` or holds a whole model, whose weights then lie in the group ``model_weights``. A
group's attribute ``layer_names`` lists the layers, each layer's ``weight_names`` its tensors.
Kernels are (height, width, inputs, outputs), ours (outputs, inputs, height, width).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.networks.inception_v3 import ConvNorm

Layer = Mapping[str, NDArray[np.float32]]
"""Name of a tensor, such as ``kernel`` or ``moving_mean``, to its values."""

_NORM: Final = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NUMBER: Final = re.compile(r"_(\d+)$")


class KerasLayoutError(ValueError):
    """A file is not the weights of the Keras application that was asked for."""


def read_layers(path: Path) -> dict[str, Layer]:
    """Read every layer of a file that has tensors.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        Name of a layer, with ``_`` for the ``/`` that older versions used, to its tensors.

    Raises
    ------
    KerasLayoutError
        If the file is not of this layout.
    """
    import h5py

    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        if "layer_names" not in group.attrs:
            raise KerasLayoutError(
                f"{path.name} has no layer_names: it is no HDF5 file of Keras 2, or one that "
                "save_weights of Keras 3 wrote; load it there and save it with model.save(NAME.h5)"
            )
        layers: dict[str, Layer] = {}
        for name in map(_text, group.attrs["layer_names"]):
            tensors = {
                _text(weight).rsplit("/", 1)[-1].split(":")[0]: np.asarray(
                    group[name][_text(weight)], dtype=np.float32
                )
                for weight in group[name].attrs["weight_names"]
            }
            if tensors:
                layers[name.replace("/", "_")] = tensors
        return layers


def backbone_state(
    layers: Mapping[str, Layer], network: str, backbone: nn.Module
) -> dict[str, Tensor]:
    """Name the tensors of a Keras application as our backbone does.

    Parameters
    ----------
    layers : Mapping
        As from ``read_layers``.
    network : str
        A key of ``pipeline.networks.NETWORKS``.
    backbone : nn.Module
        Of that network.

    Raises
    ------
    KerasLayoutError
        If a layer is not one of that application.
    """
    if network.startswith("inception"):
        return dict(_by_order(layers, backbone))
    names = _resnet_names if network == "resnet50" else _densenet_names
    state: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for layer, tensors in layers.items():
        ours = names(layer)
        if ours is None:
            raise KerasLayoutError(f"layer {layer} is none of Keras' {network}")
        for tensor, value in _renamed(tensors, ours):
            (biases if "kernel" in tensors and tensor.endswith(".bias") else state)[tensor] = value
    _absorb(biases, state)
    return state


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _renamed(tensors: Layer, ours: str) -> Iterator[tuple[str, Tensor]]:
    for name, values in tensors.items():
        if name == "kernel":
            yield f"{ours}.weight", torch.from_numpy(values.transpose(3, 2, 0, 1).copy())
        else:
            yield f"{ours}.{_NORM.get(name, name)}", torch.from_numpy(values.copy())
    if "beta" in tensors and "gamma" not in tensors:
        # Keras leaves the scale away where ReLU follows, which any later layer can make up for.
        yield f"{ours}.weight", torch.ones(len(tensors["beta"]))


def _absorb(biases: Mapping[str, Tensor], state: dict[str, Tensor]) -> None:
    """Move the bias of a convolution into the running mean of the batch norm behind it.

    (x + b) - m = x - (m - b), and in training the mean of the batch takes b away all the same.
    """
    for name, bias in biases.items():
        norm = re.sub(r"downsample\.0\.bias$", "downsample.1", name)
        norm = re.sub(r"conv(\d)\.bias$", r"bn\1", norm)
        state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - bias


def _resnet_names(layer: str) -> str | None:
    """Name of a layer of Keras' ResNet50: ``conv3_block1_2_bn`` is ``layer2.0.bn2``."""
    if layer in {"conv1_conv", "conv1_bn"}:
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[layer]
    found = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer)
    if found is None:
        return None
    stage, block, place, kind = found.groups()
    prefix = f"layer{int(stage) - 1}.{int(block) - 1}"
    if place == "0":
        return f"{prefix}.downsample.{'0' if kind == 'conv' else '1'}"
    return f"{prefix}.{kind}{place}"


def _densenet_names(layer: str) -> str | None:
    """Name of a layer of Keras' DenseNet121, whose blocks count from 2 and norms from 0."""
    fixed = {"conv1_conv": "conv0", "conv1_bn": "norm0", "bn": "norm5"}
    if layer in fixed:
        return f"features.{fixed[layer]}"
    if found := re.fullmatch(r"pool(\d)_(conv|bn)", layer):
        part = "conv" if found[2] == "conv" else "norm"
        return f"features.transition{int(found[1]) - 1}.{part}"
    found = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer)
    if found is None:
        return None
    stage, block, place, kind = found.groups()
    part = f"conv{place}" if kind == "conv" else f"norm{int(place) + 1}"
    return f"features.denseblock{int(stage) - 1}.denselayer{block}.layers.{part}"


def _by_order(layers: Mapping[str, Layer], backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name the layers of an Inception, most of which have numbers for names.

    Keras numbers layers as they are made, from the entrance to the end and branch by branch, and
    goes on counting where an earlier model of the same process stopped. Our modules are registered
    in that order.
    """
    ours = [name for name, module in backbone.named_modules() if isinstance(module, ConvNorm)]
    for kind, part in (("conv2d", "conv"), ("batch_normalization", "bn")):
        numbered = sorted((_count(name), name) for name in layers if _is_numbered(name, kind))
        named = [name for _, name in numbered]
        last = "conv_7b" if part == "conv" else "conv_7b_bn"
        named += [last] if last in layers else []
        if len(named) != len(ours):
            raise KerasLayoutError(
                f"{len(named)} layers called {kind} where {type(backbone).__name__} has {len(ours)}"
            )
        for layer, name in zip(named, ours, strict=True):
            yield from _renamed(layers[layer], f"{name}.{part}")
    residual = {"block35": "repeat", "block17": "repeat_1", "block8": "repeat_2"}
    for layer, tensors in layers.items():
        if found := re.fullmatch(r"(block\d+)_(\d+)_conv", layer):
            block, number = found[1], int(found[2])
            name = f"{residual[block]}.{number - 1}"
            yield from _renamed(tensors, f"{'block8' if name == 'repeat_2.9' else name}.conv2d")


def _is_numbered(name: str, kind: str) -> bool:
    return name == kind or re.fullmatch(rf"{kind}_\d+", name) is not None


def _count(name: str) -> int:
    found = _NUMBER.search(name)
    return int(found[1]) if found else 0


def applies(path: Path) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def arguments_of(network: str) -> dict[str, Any]:
    """Arguments of the builder that computes what Keras computes."""
    # Inception-ResNet V2 is the same in Keras and here.
    return {} if network == "inception_resnet_v2" else {"keras": True}
