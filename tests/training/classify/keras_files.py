"""HDF5 files as Keras writes them, with weights that follow from their names."""

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
from torch import nn

from pipeline.networks.inception_v3 import ConvNorm
from tests.formula_weights import formula_tensor

Tensors = list[tuple[str, tuple[int, ...]]]
"""Layer and tensor, as ``conv2d/kernel``, with its shape."""


def keras_tensors(network: str, backbone: nn.Module, first: int = 0) -> Tensors:
    """List the tensors of a Keras application.

    ``first`` is how many convolutions the process had made before.
    """
    if network.startswith("inception"):
        return list(_inception(backbone, first))
    return list(_resnet(backbone) if network == "resnet50" else _densenet(backbone))


def write_keras_file(path: Path, tensors: Tensors, *, whole: bool, old: bool = False) -> Path:
    """Write a file, of a whole model or of weights alone, with the names of now or of TensorFlow 2.

    Old versions ended names in ":0" and had slashes in names of layers.
    """
    layers: dict[str, Tensors] = {"input_1": []}
    for name, shape in tensors:
        layers.setdefault(name.split("/")[0], []).append((name, shape))
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        group.attrs["layer_names"] = [_layer_name(layer, old) for layer in layers]
        for layer, held in layers.items():
            written = group.create_group(_layer_name(layer, old))
            ending = ":0" if old else ""
            names = [f"{_layer_name(layer, old)}/{n.split('/')[1]}{ending}" for n, _ in held]
            written.attrs["weight_names"] = [name.encode() for name in names]
            for name, (key, shape) in zip(names, held, strict=True):
                written.create_dataset(name, data=formula_tensor(_formula_name(key), shape))
    return path


def _layer_name(layer: str, old: bool) -> str:
    found = re.fullmatch(r"conv1_(conv|bn)", layer)
    return f"conv1/{found[1]}" if old and found else layer


def _formula_name(name: str) -> str:
    """Name of a tensor when nothing had been counted before."""
    found = re.fullmatch(r"(conv2d|batch_normalization)_(\d+)(/.+)", name)
    if found is None or int(found[2]) < 1000:
        return name
    count = int(found[2]) - 1000
    return f"{found[1]}{f'_{count}' if count else ''}{found[3]}"


def _kernel(convolution: nn.Module) -> tuple[int, ...]:
    assert isinstance(convolution, nn.Conv2d)
    outputs, inputs, rows, columns = convolution.weight.shape
    return rows, columns, inputs, outputs


def _norm(layer: str, channels: int, *names: str) -> Tensors:
    return [
        (f"{layer}/{n}", (channels,)) for n in (*names, "beta", "moving_mean", "moving_variance")
    ]


def _inception(backbone: nn.Module, first: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    units = [(n, m) for n, m in backbone.named_modules() if isinstance(m, ConvNorm)]
    for count, (name, unit) in enumerate(units):
        number = f"_{count + first}" if count + first else ""
        kernel = _kernel(unit.conv)
        convolution, norm = f"conv2d{number}", f"batch_normalization{number}"
        if name == "conv2d_7b":
            convolution, norm = "conv_7b", "conv_7b_bn"
        yield f"{convolution}/kernel", kernel
        yield from _norm(norm, kernel[3])
    for name, module in backbone.named_modules():
        found = re.fullmatch(r"(repeat|repeat_1|repeat_2)\.(\d+)\.conv2d|block8\.conv2d", name)
        if found:
            kind = {"repeat": "block35", "repeat_1": "block17"}.get(found[1] or "", "block8")
            layer = f"{kind}_{int(found[2] or 9) + 1}_conv"
            kernel = _kernel(module)
            yield f"{layer}/kernel", kernel
            yield f"{layer}/bias", (kernel[3],)


def _resnet(backbone: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, module in backbone.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        layer = "conv1_conv"
        if name != "conv1":
            stage, block, rest = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr] # it matches
            place = 0 if rest == "downsample.0" else int(rest[-1])
            layer = f"conv{int(stage) + 1}_block{int(block) + 1}_{place}_conv"
        kernel = _kernel(module)
        yield f"{layer}/kernel", kernel
        yield f"{layer}/bias", (kernel[3],)
        yield from _norm(layer.replace("_conv", "_bn"), kernel[3], "gamma")


def _densenet(backbone: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    fixed = {"conv0": "conv1_conv", "norm0": "conv1_bn", "norm5": "bn"}
    for name, module in backbone.named_modules():
        leaf = name.rsplit(".", 1)[-1]
        if found := re.search(r"denseblock(\d)\.denselayer(\d+)\.layers\.(conv|norm)(\d)$", name):
            place = int(found[4]) - (found[3] == "norm")
            kind = "conv" if found[3] == "conv" else "bn"
            layer = f"conv{int(found[1]) + 1}_block{found[2]}_{place}_{kind}"
        elif found := re.search(r"transition(\d)\.(conv|norm)$", name):
            layer = f"pool{int(found[1]) + 1}_{'conv' if found[2] == 'conv' else 'bn'}"
        elif leaf in fixed:
            layer = fixed[leaf]
        else:
            continue
        if isinstance(module, nn.Conv2d):
            yield f"{layer}/kernel", _kernel(module)
        elif isinstance(module, nn.BatchNorm2d):
            yield from _norm(layer, module.num_features, "gamma")
