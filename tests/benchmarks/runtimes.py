"""What runs the segmenter fastest, with the same masks; and beside it a network of volumes."""

import copy
import importlib
import importlib.util
import math
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from monai.networks.nets import DynUNet
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from pipeline.analyze import Models
from pipeline.preprocess import NetworkInput, prepare
from pipeline.segment import label_tissues, native_views
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES
from pipeline.types import CTVolume
from pipeline.weights import LoadedModel
from training.evaluate import dice

Runtime = Callable[[nn.Module, Tensor], nn.Module]
"""Makes a network ready for inputs like the given one."""

_MUSCLE = next(tissue.label for tissue in TISSUES if tissue.name == SKELETAL_MUSCLE)
_SPACING_MM = 1.5
# The 3D full resolution configuration that nnU-Net plans for CT: six stages, 32 to 320 channels.
_CHANNELS = (32, 64, 128, 256, 320, 320)
_STEP = 0.5
"""Of the sliding window, as nnU-Net moves it."""


class _Wrapped(nn.Module):
    """A function on tensors that looks like a network."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._run = run

    @override
    def forward(self, batch: Tensor) -> Tensor:
        return self._run(batch)


def eager(network: nn.Module, _example: Tensor) -> nn.Module:
    """PyTorch as it is, in single precision."""
    return network


def channels_last(network: nn.Module, _example: Tensor) -> nn.Module:
    """PyTorch with another order of values in memory."""
    moved = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Wrapped(lambda batch: moved(batch.contiguous(memory_format=torch.channels_last)))


def bfloat16(network: nn.Module, _example: Tensor) -> nn.Module:
    """PyTorch's automatic mixed precision."""

    def run(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = network(batch)
        return logits.float()

    return _Wrapped(run)


def compiled(network: nn.Module, _example: Tensor) -> nn.Module:
    """PyTorch's compiler."""
    return torch.compile(network)  # type: ignore[return-value]


def onnx_runtime(network: nn.Module, example: Tensor) -> nn.Module:
    """The network as ONNX, in its runtime."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(_as_onnx(network, example), options)
    (name,) = (node.name for node in session.get_inputs())

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: batch.numpy()})[0])

    return _Wrapped(run)


def openvino(network: nn.Module, example: Tensor) -> nn.Module:
    """The network as ONNX, in OpenVINO."""
    core = importlib.import_module("openvino").Core()
    model = core.read_model(_as_onnx(network, example))
    hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    ready = core.compile_model(model, "CPU", hints)
    return _Wrapped(lambda batch: torch.from_numpy(ready(batch.numpy())[0]))


def _as_onnx(network: nn.Module, example: Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of its dependencies
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), file, dynamo=True, external_data=False)
        return file.read_bytes()


def available(*, compiling: bool) -> dict[str, Runtime]:
    """Every runtime that is installed here; compiling takes minutes."""
    there: dict[str, Runtime] = {
        "PyTorch, eager": eager,
        "PyTorch, channels last": channels_last,
        "PyTorch, bfloat16": bfloat16,
    }
    if compiling and shutil.which("g++"):
        there["PyTorch, compiled"] = compiled
    if all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime"))):
        there["ONNX Runtime"] = onnx_runtime
    if all(map(importlib.util.find_spec, ("onnxscript", "openvino"))):
        there["OpenVINO"] = openvino
    return there


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One runtime.

    Parameters
    ----------
    times_s : tuple of float
        For one slice, as it is and mirrored.
    ready_s : float
        From the network in memory to the first answer.
    labels : NDArray[np.uint8], shape (rows, columns)
    """

    times_s: tuple[float, ...]
    ready_s: float
    labels: NDArray[np.uint8]


def runtimes_table(
    model: LoadedModel, volume: CTVolume, slice_index: int, rounds: int, *, compiling: bool
) -> Iterator[str]:
    """Times of each runtime and its mask beside that of eager PyTorch, as a Markdown table."""
    network_input = prepare(volume, slice_index, model.spec)
    found = {
        name: _measure(model, network_input, runtime, rounds)
        for name, runtime in available(compiling=compiling).items()
    }
    reference = next(iter(found.values())).labels == _MUSCLE
    yield "| runtime | ms for a slice (least - most) | s until ready | Dice with eager |"
    yield "|---|---|---|---|"
    for name, one in found.items():
        times = [time_s * 1e3 for time_s in one.times_s]
        yield (
            f"| {name} | {median(times):.0f} ({min(times):.0f} - {max(times):.0f}) "
            f"| {one.ready_s:.1f} | {dice(one.labels == _MUSCLE, reference):.5f} |"
        )


def _measure(
    model: LoadedModel, network_input: NetworkInput, runtime: Runtime, rounds: int
) -> Measured:
    example = torch.from_numpy(network_input.image)
    example = torch.stack([example, example.flip(1)])
    start = time.perf_counter()
    network = runtime(model.networks[0], example)
    with torch.inference_mode():
        network(example)
    ready_s = time.perf_counter() - start
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        with torch.inference_mode():
            network(example)
        times.append(time.perf_counter() - start)
    views = native_views(model, network_input, [network])
    labels = label_tissues(np.mean(views, axis=0), network_input.native_hu, model.threshold)
    return Measured(tuple(times), ready_s, labels)


def whole_volume_table(
    models: Models, volume: CTVolume, patch_cells: int, rounds: int
) -> Iterator[str]:
    """Time of our two networks beside that of a 3D U-Net over the whole volume, as a table.

    The U-Net has random weights, which take as long as others; one window is measured and counted
    as often as a sliding window needs it.
    """
    ours = []
    for _ in range(rounds):
        start = time.perf_counter()
        level = models.level_finder.find(volume)
        views = prepare(volume, level.slice_index, models.segmenter.spec)
        native_views(models.segmenter, views, models.segmenter.networks)
        ours.append(time.perf_counter() - start)
    windows = _windows(volume, patch_cells)
    window_s = _time_of_window(patch_cells)
    ours_s, theirs_s = median(ours), windows * window_s
    yield "| what | s for a series | times ours |"
    yield "|---|---|---|"
    yield f"| Psoas: L3 in the volume, muscle on its slice | {ours_s:.2f} | 1 |"
    yield (
        f"| 3D U-Net, {windows} windows of {patch_cells}³ at {_SPACING_MM} mm "
        f"| {theirs_s:.0f} | {theirs_s / ours_s:.0f} |"
    )


def _windows(volume: CTVolume, patch_cells: int) -> int:
    spacing_mm = (volume.slice_spacing_mm, *volume.pixel_spacing_mm)
    cells = np.array(volume.hu.shape) * spacing_mm / _SPACING_MM
    steps = [max(0, math.ceil((size - patch_cells) / (patch_cells * _STEP))) for size in cells]
    return math.prod(step + 1 for step in steps)


def _time_of_window(patch_cells: int) -> float:
    stages = len(_CHANNELS)
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3] * stages,
        strides=[1] + [2] * (stages - 1),
        upsample_kernel_size=[2] * (stages - 1),
        filters=_CHANNELS,
    ).eval()
    window = torch.zeros(1, 1, patch_cells, patch_cells, patch_cells)
    with torch.inference_mode():
        start = time.perf_counter()
        network(window)
        return time.perf_counter() - start
