"""Phantoms that somebody drew on, and models that see muscle by its HU."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from pipeline.analyze import Models
from pipeline.errors import LevelUncertainError
from pipeline.preprocess import PreprocessSpec
from pipeline.tissues import Compartment
from pipeline.types import AnatomicLevel, CTVolume, ModelIdentity
from pipeline.weights import LoadedModel
from tests.phantoms import TorsoPhantom
from training.intake.found import Drawn, FoundCase


class ByHU(nn.Module):
    """Muscle is what lies in the middle of the window, fat below it."""

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), len(Compartment), *images.shape[2:])
        logits[:, Compartment.MUSCLE] = 20.0 * ((images[:, 0] > 0.4) & (images[:, 0] < 0.7)) - 10
        logits[:, Compartment.SUBCUTANEOUS] = 5.0 * ((images[:, 0] > 0.1) & (images[:, 0] < 0.3))
        return logits


@dataclass(frozen=True)
class Finds:
    """A finder that says what it is told."""

    index: int | None
    models: tuple[ModelIdentity, ...] = (ModelIdentity("finder", "1", "cd" * 32),)

    def find(self, volume: CTVolume) -> AnatomicLevel:
        if self.index is None:
            raise LevelUncertainError(f"{volume.hu.shape[0]} slices tell no level")
        return AnatomicLevel("L3", self.index, 0.9, (self.index, self.index))


def models(index: int | None = 1) -> Models:
    identity = ModelIdentity("by_hu", "1", "ab" * 32)
    segmenter = LoadedModel(
        identity, PreprocessSpec(), tuple(Compartment), 0.5, None, (ByHU(),), torch.device("cpu")
    )
    return Models(segmenter, Finds(index))


def phantom(thickness_mm: float = 30.0) -> TorsoPhantom:
    return TorsoPhantom(shape=(4, 160, 160), pixel_mm=2.4, thickness_mm=thickness_mm)


def case(
    body: TorsoPhantom, drawn: Mapping[int, np.ndarray] | None, sex: str = "F", patient: str = "p1"
) -> FoundCase:
    read = None if drawn is None else (lambda _volume: Drawn(drawn, whole=False))
    return FoundCase(patient, sex, (Path("x.nii.gz"),), partial(body.volume), read)


def ring(body: TorsoPhantom, index: int) -> dict[int, np.ndarray]:
    return {index: body.muscle_mask()[index].astype(np.uint8)}
