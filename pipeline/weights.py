"""Trained weights: a folder with a manifest in, networks ready for inference out.

``manifest.json`` names the network, its preprocessing and the weight files with their checksums::

    {"name": ..., "version": ..., "software_version": ...,
     "network": {"name": ..., "arguments": {...}}, "preprocess": {...},
     "files": [{"path": "member_0.safetensors", "sha256": ...}],
     "labels": [...], "extra": {...}, "data": {...}}

Each file holds one member of an ensemble, in half precision; computation is in single precision.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from pipeline.errors import ModelError
from pipeline.networks import build_network
from pipeline.preprocess import PreprocessSpec
from pipeline.tissues import Compartment
from pipeline.types import ModelIdentity

MODELS_FOLDER: Final = Path(__file__).parent / "models"
SEGMENTER: Final = "smit_l3"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.json`` says, checked.

    Parameters
    ----------
    identity : ModelIdentity
    network, arguments : str, Mapping
        For ``pipeline.networks.build_network``.
    preprocess : Mapping
        Fields of the preprocessing that this kind of model uses.
    files : tuple of Path
    labels : tuple of str
        Output channels, in order.
    extra : Mapping
        What only this kind of model has, such as thresholds.
    """

    identity: ModelIdentity
    network: str
    arguments: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    files: tuple[Path, ...]
    labels: tuple[str, ...]
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Errors on patients that the ensemble had not seen, each divided by its expected size.

    Parameters
    ----------
    scores : tuple of float
        Ascending; the basis of conformal intervals.
    patients : int
        How many people the scores come from; slices of one person are not independent.
    """

    scores: tuple[float, ...]
    patients: int


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A segmenter in memory.

    Parameters
    ----------
    identity : ModelIdentity
    spec : PreprocessSpec
    compartments : tuple of Compartment
        Output channels, in order.
    threshold : float
        Probability from which a pixel belongs to the muscle compartment.
    calibration : Calibration or None
    networks : tuple of nn.Module
        The members of the ensemble, in evaluation mode.
    device : torch.device
    """

    identity: ModelIdentity
    spec: PreprocessSpec
    compartments: tuple[Compartment, ...]
    threshold: float
    calibration: Calibration | None
    networks: tuple[nn.Module, ...]
    device: torch.device


def choose_device(preference: str = "auto") -> torch.device:
    """Turn a preference into a device; the one place that decides.

    Parameters
    ----------
    preference : str
        ``"auto"`` takes CUDA when there is a device, otherwise the processor; any other value is
        taken literally.

    Raises
    ------
    ModelError
        If the device does not exist.
    """
    if preference == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(preference)
    except RuntimeError as error:
        raise ModelError(f"device {preference!r} is unknown") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"device {preference!r} is not there: {torch.cuda.device_count()} found")
    return device


def load_model(folder: Path | None, device: torch.device) -> LoadedModel:
    """Load a segmenter.

    Parameters
    ----------
    folder : Path or None
        ``None`` takes the weights that come with the package.
    device : torch.device

    Raises
    ------
    ModelError
        If anything is missing, altered, or made for other code.
    """
    folder = folder or MODELS_FOLDER / SEGMENTER
    manifest = read_manifest(folder)
    expected = tuple(compartment.name.lower() for compartment in Compartment)
    if manifest.labels != expected:
        raise ModelError(f"{folder.name} has channels {manifest.labels}, wanted {expected}")
    threshold = manifest.extra.get("threshold")
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        raise ModelError(f"{folder.name} has threshold {threshold!r}, must be between 0 and 1")
    return LoadedModel(
        identity=manifest.identity,
        spec=PreprocessSpec.from_dict(manifest.preprocess),
        compartments=tuple(Compartment),
        threshold=threshold,
        calibration=_calibration(manifest.extra.get("calibration")),
        networks=load_networks(manifest, device),
        device=device,
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest and compare every weight file with its checksum.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    ModelError
        If the manifest or a file is missing, malformed or altered.
    """
    try:
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files = tuple(
            _checked(folder, entry["path"], entry["sha256"]) for entry in content["files"]
        )
        return Manifest(
            identity=ModelIdentity(content["name"], content["version"], _checksum(*files)),
            network=content["network"]["name"],
            arguments=content["network"]["arguments"],
            preprocess=content["preprocess"],
            files=files,
            labels=tuple(content["labels"]),
            extra=content["extra"],
        )
    except OSError as error:
        raise ModelError(f"model {folder.name} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"manifest of model {folder.name} is malformed: {error!r}") from error


def load_networks(manifest: Manifest, device: torch.device) -> tuple[nn.Module, ...]:
    """Build one network for each weight file, in evaluation mode on ``device``.

    Raises
    ------
    ModelError
        If a file does not fit the network.
    """
    if not manifest.files:
        raise ModelError(f"model {manifest.identity.name} names no weight file")
    return tuple(_load_network(manifest, path, device) for path in manifest.files)


def _load_network(manifest: Manifest, path: Path, device: torch.device) -> nn.Module:
    network = build_network(manifest.network, manifest.arguments)
    try:
        tensors = load_safetensors(path.read_bytes())
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"weights {path.name} do not fit {manifest.network}: {error}") from error
    # Integer buffers are index tables that the network makes itself.
    own = {key for key, value in network.state_dict().items() if not value.is_floating_point()}
    if unexpected or not own.issuperset(missing):
        odd = ", ".join([*unexpected, *sorted(set(missing) - own)][:3])
        raise ModelError(f"weights {path.name} do not fit {manifest.network}: {odd}")
    return network.float().to(device).eval()


def _checked(folder: Path, name: str, sha256: str) -> Path:
    """Return the path of a weight file that is what the manifest says."""
    path = folder / name
    if path.parent != folder:
        raise ModelError(f"weight file {name!r} lies outside of its model")
    if _checksum(path) != sha256:
        raise ModelError(f"weight file {name} of {folder.name} differs from its checksum {sha256}")
    return path


def _checksum(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _calibration(values: Mapping[str, Any] | None) -> Calibration | None:
    if values is None:
        return None
    try:
        return Calibration(tuple(sorted(map(float, values["scores"]))), int(values["patients"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"calibration is malformed: {error!r}") from error
