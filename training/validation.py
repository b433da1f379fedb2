"""How a network in training does on patients that it does not see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from pipeline.preprocess import prepare
from pipeline.tissues import Compartment
from pipeline.types import ModelIdentity
from pipeline.weights import LoadedModel
from training.config import FinetuneRecipe
from training.data import LabelledSlice
from training.data import sample as sample_of
from training.evaluate import measure_slice, summarize
from training.runfolder import grey_rgb

VALIDATION_THRESHOLD = 0.45
"""Probability of muscle while training; the exported one is chosen by patients left out."""


@dataclass(frozen=True, slots=True)
class Score:
    """A validation: means over patients.

    Parameters
    ----------
    step : int
    error_percent : float
        Mean absolute error of the skeletal muscle area.
    dice : float
    """

    step: int
    error_percent: float
    dice: float


def validate(
    network: nn.Module,
    recipe: FinetuneRecipe,
    slices: Sequence[LabelledSlice],
    step: int,
    device: torch.device,
) -> Score:
    """Measure slices as the node would measure them."""
    model = LoadedModel(
        ModelIdentity(recipe.name, "0", ""), recipe.preprocess, tuple(Compartment),
        VALIDATION_THRESHOLD, None, (network.eval(),), device,
    )  # fmt: skip
    rows = [measure_slice(model, labelled, [VALIDATION_THRESHOLD])[0] for labelled in slices]
    summary = summarize(rows)
    return Score(step, summary.absolute_error_percent, summary.dice)


def picture(
    network: nn.Module, recipe: FinetuneRecipe, labelled: LabelledSlice
) -> NDArray[np.uint8]:
    """Show a slice with the drawn outline of muscle in green and the predicted one in red."""
    shown = prepare(labelled.volume, labelled.slice_index, recipe.preprocess)
    drawn = sample_of(labelled, recipe.preprocess).fractions[Compartment.MUSCLE]
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(shown.image)[None].to(device))
    predicted = torch.softmax(logits.float(), 1)[0, Compartment.MUSCLE].cpu().numpy()
    rgb = grey_rgb([shown.image[0]])
    for fractions, colour in ((drawn, (60, 200, 60)), (predicted, (230, 60, 60))):
        mask = (fractions >= 0.5).T[::-1, ::-1]
        rgb[mask & ~ndimage.binary_erosion(mask)] = colour
    return rgb
