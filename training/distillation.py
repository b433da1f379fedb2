"""Parts of SMIT's self-supervision: masks, heads, losses.

Jiang et al., MICCAI 2022, with its weights of 1 for masked image prediction and 0.1 for both
distillations. The last layer compares directions only, which is its weight-normalised linear layer
of magnitude 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from training.distributed import SharedBatchNorm


class ProjectionHead(nn.Module):
    """Tokens to the logits of prototypes.

    Parameters
    ----------
    channels, hidden, bottleneck, prototypes : int
    normalised : bool
        Batch norm in both hidden layers; without it small models collapse to a uniform output.
    """

    def __init__(
        self, channels: int, hidden: int, bottleneck: int, prototypes: int, *, normalised: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, hidden):
            layers.append(nn.Linear(inputs, hidden, bias=not normalised))
            layers += [SharedBatchNorm(hidden)] if normalised else []
            layers.append(nn.GELU())
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., channels) to cosines, shape (..., prototypes)."""
        flat = self.layers(tokens.reshape(-1, tokens.shape[-1]))
        directions = functional.normalize(self.prototypes, dim=-1)
        cosines = functional.normalize(flat, dim=-1) @ directions.T
        return cosines.reshape(*tokens.shape[:-1], -1)


def draw_mask(
    batch: int, cells: tuple[int, ...], ratio: float, generator: torch.Generator
) -> Tensor:
    """Mask the same number of cells, rounded up, in each image.

    Returns
    -------
    Tensor of bool, shape (batch, 1, ...)
    """
    count = math.prod(cells)
    order = torch.rand(batch, count, generator=generator).argsort(dim=1)
    return (order < math.ceil(ratio * count)).reshape(batch, 1, *cells)


def enlarge(mask: Tensor, factor: int) -> Tensor:
    """Repeat each cell of (B, 1, ...) ``factor`` times along each spatial axis."""
    for axis in range(2, mask.ndim):
        mask = mask.repeat_interleave(factor, dim=axis)
    return mask


def masked_l1(predicted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the masked pixels."""
    return ((predicted - image).abs() * mask).sum() / mask.sum()


def cross_entropy(
    teacher: Tensor, student: Tensor, student_temperature: float, weights: Tensor
) -> Tensor:
    """Cross entropy of ``student`` logits against ``teacher`` probabilities.

    Parameters
    ----------
    teacher, student : Tensor, shape (..., prototypes)
    student_temperature : float
    weights : Tensor, shape (...)
        Which tokens count.

    Returns
    -------
    Tensor, shape ()
    """
    log_probabilities = functional.log_softmax(student / student_temperature, dim=-1)
    entropy = -(teacher.detach() * log_probabilities).sum(dim=-1)
    return (entropy * weights).sum() / weights.sum()


@dataclass(frozen=True, slots=True)
class Information:
    """What teacher probabilities tell apart, in nats, with the largest possible entropy."""

    entropy: float
    mutual: float
    largest: float


def information(probabilities: Tensor) -> Information:
    """Measure how far teacher outputs are from a collapse.

    Parameters
    ----------
    probabilities : Tensor, shape (..., prototypes)
    """
    flat = probabilities.reshape(-1, probabilities.shape[-1])
    entropy = float(torch.special.entr(flat).sum(-1).mean())
    of_mean = float(torch.special.entr(flat.mean(0)).sum())
    return Information(entropy, of_mean - entropy, math.log(flat.shape[-1]))
