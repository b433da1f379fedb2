"""A second opinion on the measured slice: how likely its muscle is low, by a classifier.

It is advisory: in the reference paper (arXiv 2508.17275) this branch overlooked patients whom the
area found. It never changes a verdict; where both disagree a flag says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.networks.classifier import CLASSES
from pipeline.preprocess import PreprocessSpec, prepare
from pipeline.types import CTVolume, ModelIdentity, SecondOpinion
from pipeline.weights import load_networks, read_manifest

_LOW: Final = CLASSES.index("low")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedClassifier:
    """A classifier in memory.

    Parameters
    ----------
    identity : ModelIdentity
    spec : PreprocessSpec
        Its smallest side is the side of the network's images.
    threshold : float
        Probability from which muscle counts as low.
    networks : tuple of nn.Module
        The members of the ensemble, in evaluation mode.
    device : torch.device
    """

    identity: ModelIdentity
    spec: PreprocessSpec
    threshold: float
    networks: tuple[nn.Module, ...]
    device: torch.device


def load_classifier(folder: Path, device: torch.device) -> LoadedClassifier:
    """Load a classifier.

    Parameters
    ----------
    folder : Path
    device : torch.device

    Raises
    ------
    ModelError
        If anything is missing, altered, or made for other code.
    """
    manifest = read_manifest(folder)
    if manifest.labels != CLASSES:
        raise ModelError(f"{folder.name} tells {manifest.labels} apart, wanted {CLASSES}")
    threshold = manifest.extra.get("threshold")
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        raise ModelError(f"{folder.name} has threshold {threshold!r}, must be between 0 and 1")
    return LoadedClassifier(
        identity=manifest.identity,
        spec=PreprocessSpec.from_dict(manifest.preprocess),
        threshold=threshold,
        networks=load_networks(manifest, device),
        device=device,
    )


def second_opinion(model: LoadedClassifier, volume: CTVolume, slice_index: int) -> SecondOpinion:
    """Ask the classifier about one slice.

    Probabilities are averaged over the ensemble and over the slice as it is and mirrored.

    Parameters
    ----------
    model : LoadedClassifier
    volume : CTVolume
    slice_index : int
        Counted from the most inferior slice.
    """
    image = classifier_image(prepare(volume, slice_index, model.spec).image, model.spec)
    pixels = torch.from_numpy(image).to(model.device)
    batch = torch.stack([pixels, pixels.flip(1)])
    with torch.inference_mode():
        low = torch.stack([low_probability(network(batch)) for network in model.networks])
    return SecondOpinion(float(low.mean()), model.threshold, model.identity)


def low_probability(logits: Tensor) -> Tensor:
    """Probability of low muscle, (B, classes) to (B,)."""
    return logits.float().softmax(dim=1)[:, _LOW]


def classifier_image(image: NDArray[np.float32], spec: PreprocessSpec) -> NDArray[np.float32]:
    """Cut the middle out of a network image whose body is wider than the classifier's square.

    Parameters
    ----------
    image : NDArray[np.float32], shape (1, R, A)
        As from ``pipeline.preprocess``, with sides of at least ``spec.smallest_side``.
    spec : PreprocessSpec

    Returns
    -------
    NDArray[np.float32], shape (1, side, side)
    """
    side = spec.smallest_side
    first = [(length - side) // 2 for length in image.shape[1:]]
    return np.ascontiguousarray(
        image[:, first[0] : first[0] + side, first[1] : first[1] + side], dtype=np.float32
    )
