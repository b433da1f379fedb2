"""Tissues of one slice: network probabilities turned into a mask on the native grid."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.preprocess import NetworkInput, prepare, to_native
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES, Compartment
from pipeline.types import AnatomicLevel, CTVolume, TissueMask
from pipeline.weights import LoadedModel

_MM2_PER_CM2: Final = 100.0
_MUSCLE_LABEL: Final = next(t.label for t in TISSUES if t.name == SKELETAL_MUSCLE)


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Tissues of the slice of a level.

    Parameters
    ----------
    mask : TissueMask
        On the native grid, one slice.
    measured_hu : NDArray[np.int16], shape (rows, columns)
        What the limits of HU were applied to: the slice, averaged to a slab when slices are thin.
    areas_cm2 : tuple of float
        Skeletal muscle area according to each member of the ensemble and each mirrored view; their
        spread tells how sure the ensemble is.
    """

    mask: TissueMask
    measured_hu: NDArray[np.int16]
    areas_cm2: tuple[float, ...]

    def __post_init__(self) -> None:
        self.measured_hu.setflags(write=False)


def segment(model: LoadedModel, volume: CTVolume, level: AnatomicLevel) -> Segmentation:
    """Segment the slice of ``level``.

    Probabilities are averaged over the ensemble and over the slice as it is and mirrored, brought
    to the native grid, and turned into compartments there. A pixel then belongs to a tissue when
    it lies in the tissue's compartment and its HU within the tissue's range.

    Parameters
    ----------
    model : LoadedModel
    volume : CTVolume
    level : AnatomicLevel

    Returns
    -------
    Segmentation
    """
    network_input = prepare(volume, level.slice_index, model.spec)
    shape = network_input.native_hu.shape
    views = [
        to_native(view, network_input.grid, (shape[0], shape[1]))
        for view in predict(model, network_input)
    ]
    hu = network_input.native_hu
    areas = [
        np.count_nonzero(label_tissues(view, hu, model.threshold) == _MUSCLE_LABEL)
        * volume.pixel_area_mm2
        / _MM2_PER_CM2
        for view in views
    ]
    labels = label_tissues(np.mean(views, axis=0), hu, model.threshold)
    return Segmentation(TissueMask(labels[None], level.slice_index), hu, tuple(map(float, areas)))


def predict(model: LoadedModel, network_input: NetworkInput) -> list[NDArray[np.float32]]:
    """Probabilities of every member for both views, each of shape (compartments, R, A)."""
    image = torch.from_numpy(network_input.image).to(model.device)
    batch = torch.stack([image, image.flip(1)])
    views = []
    with torch.inference_mode():
        for network in model.networks:
            plain, mirrored = torch.softmax(network(batch), dim=1)
            views += [plain.cpu().numpy(), mirrored.flip(1).cpu().numpy()]
    return views


def label_tissues(
    probabilities: NDArray[np.float32], hu: NDArray[np.int16], threshold: float
) -> NDArray[np.uint8]:
    """Apply the rule of the mask, pixel by pixel.

    Parameters
    ----------
    probabilities : NDArray[np.float32], shape (compartments, rows, columns)
    hu : NDArray[np.int16], shape (rows, columns)
    threshold : float
        Probability from which a pixel is in the muscle compartment, whatever the others say.

    Returns
    -------
    NDArray[np.uint8], shape (rows, columns)
        Values of ``pipeline.tissues.TISSUES``, 0 elsewhere.
    """
    muscle = probabilities[Compartment.MUSCLE] >= threshold
    others = probabilities.copy()
    others[Compartment.MUSCLE] = -1.0
    compartments = np.where(muscle, Compartment.MUSCLE, others.argmax(axis=0))
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for tissue in TISSUES:
        within = (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
        labels[within & (compartments == tissue.compartment)] = tissue.label
    return labels
