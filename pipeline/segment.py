"""Tissues of one slice: network probabilities turned into a mask on the native grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.composition import area_cm2
from pipeline.preprocess import NetworkInput, beside_body, prepare, to_native
from pipeline.tissues import SKELETAL_MUSCLE, TISSUES, Compartment
from pipeline.types import AnatomicLevel, CTVolume, TissueMask
from pipeline.weights import LoadedModel

_LEVEL_OFFSETS_MM: Final = (-10.0, -5.0, 5.0, 10.0)
"""How far the finder of L3 may be from the middle that a person would choose."""

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
    ensemble_spread_cm2 : float
        Standard deviation of the skeletal muscle area over the members of the ensemble and their
        mirrored views.
    nearby_cm2 : tuple of float
        The same area on slices within 10 mm, from the feet to the head, the slice itself among
        them; empty when a person chose the slice.
    """

    mask: TissueMask
    measured_hu: NDArray[np.int16]
    ensemble_spread_cm2: float
    nearby_cm2: tuple[float, ...]

    def __post_init__(self) -> None:
        self.measured_hu.setflags(write=False)

    @property
    def level_spread_cm2(self) -> float:
        """Standard deviation of the area over the slices that may be the middle of L3."""
        return float(np.std(self.nearby_cm2)) if self.nearby_cm2 else 0.0


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
    views = native_views(model, network_input, model.networks)
    hu = network_input.native_hu
    areas_cm2 = [_muscle_cm2(model, volume, view, hu) for view in views]
    labels = label_tissues(np.mean(views, axis=0), hu, model.threshold)
    return Segmentation(
        TissueMask(labels[None], level.slice_index),
        hu,
        float(np.std(areas_cm2)),
        _nearby_cm2(model, volume, level),
    )


def native_views(
    model: LoadedModel, network_input: NetworkInput, networks: Sequence[nn.Module]
) -> list[NDArray[np.float32]]:
    """Probabilities of each network for both views, on the native grid.

    Returns
    -------
    list of NDArray[np.float32], shape (compartments, rows, columns)
    """
    rows, columns = network_input.native_hu.shape
    return [
        to_native(view, network_input.grid, (rows, columns))
        for view in _predict(networks, model.device, network_input)
    ]


def _nearby_cm2(model: LoadedModel, volume: CTVolume, level: AnatomicLevel) -> tuple[float, ...]:
    """Areas close to the slice; one member is enough to see how they vary."""
    if level.extent is None:
        return ()
    offsets = [0, *(round(mm / volume.slice_spacing_mm) for mm in _LEVEL_OFFSETS_MM)]
    last = volume.hu.shape[0] - 1
    areas_cm2 = []
    for index in sorted({min(max(level.slice_index + offset, 0), last) for offset in offsets}):
        network_input = prepare(volume, index, model.spec)
        views = native_views(model, network_input, model.networks[:1])
        mean = np.mean(views, axis=0)
        areas_cm2.append(_muscle_cm2(model, volume, mean, network_input.native_hu))
    return tuple(areas_cm2)


def _muscle_cm2(
    model: LoadedModel,
    volume: CTVolume,
    probabilities: NDArray[np.float32],
    hu: NDArray[np.int16],
) -> float:
    labels = label_tissues(probabilities, hu, model.threshold)
    return area_cm2(labels == _MUSCLE_LABEL, volume.pixel_area_mm2)


def _predict(
    networks: Sequence[nn.Module], device: torch.device, network_input: NetworkInput
) -> list[NDArray[np.float32]]:
    """Probabilities of every network for both views, each of shape (compartments, R, A)."""
    image = torch.from_numpy(network_input.image).to(device)
    batch = torch.stack([image, image.flip(1)])
    views = []
    with torch.inference_mode():
        for network in networks:
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
        Values of ``pipeline.tissues.TISSUES``, 0 elsewhere and on whatever does not hang together
        with the trunk.
    """
    muscle = probabilities[Compartment.MUSCLE] >= threshold
    others = probabilities.copy()
    others[Compartment.MUSCLE] = -1.0
    compartments = np.where(muscle, Compartment.MUSCLE, others.argmax(axis=0))
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for tissue in TISSUES:
        within = (hu >= tissue.lower_hu) & (hu <= tissue.upper_hu)
        labels[within & (compartments == tissue.compartment)] = tissue.label
    # Skeletal muscle of an arm looks like that of the trunk, and lies in a piece of its own.
    labels[beside_body(hu)] = 0
    return labels
