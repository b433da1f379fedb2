"""Segmentation training: labelled slices in, weights out."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.networks import build_network
from pipeline.tissues import Compartment
from training import checkpoint
from training.config import FinetuneRecipe
from training.data import LabelledSlice, Sample, draw_order, sample
from training.losses import dice_cross_entropy

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """What a training run changes step by step."""

    network: nn.Module
    average: AveragedModel
    optimizer: AdamW
    generator: np.random.Generator
    step: int = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def finetune(recipe: FinetuneRecipe, slices: list[LabelledSlice], out: Path, resume: bool) -> Path:
    """Train one network.

    Parameters
    ----------
    recipe : FinetuneRecipe
    slices : list of LabelledSlice
        Those of held-out patients are left out here.
    out : Path
        Folder of the run.
    resume : bool
        Go on from the last checkpoint when there is one.

    Returns
    -------
    Path
        The last checkpoint.
    """
    torch.set_num_threads(recipe.threads)
    kept = [s for s in slices if s.patient not in recipe.held_out]
    run = start(recipe)
    path = out / "checkpoint.pt"
    if resume and path.exists():
        run.restore(checkpoint.load(path, run.generator))
    log.info("training starts", slices=len(kept), step=run.step, steps=recipe.steps)
    losses: list[float] = []
    while run.step < recipe.steps:
        batch = [
            sample(kept[index], recipe.preprocess, recipe.augmentation, run.generator)
            for index in draw_order(kept, recipe.batch, run.generator)
        ]
        losses.append(train_step(run, recipe, batch))
        if run.step % recipe.checkpoint_steps == 0 or run.step == recipe.steps:
            log.info("checkpoint", step=run.step, loss=round(float(np.mean(losses)), 4))
            losses.clear()
            checkpoint.save(path, run.state() | {"recipe": recipe.to_dict()}, run.generator)
    return path


def start(recipe: FinetuneRecipe) -> Run:
    """Build the network and everything that goes with it, from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network, {**recipe.arguments, "out_channels": len(Compartment)})
    if recipe.pretrained:
        encoder = checkpoint.load(Path(recipe.pretrained))["student"]
        network.get_submodule("transformer").load_state_dict(encoder)
    decay = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call] # torch
    average = AveragedModel(network, multi_avg_fn=decay)
    optimizer = AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    return Run(network, average, optimizer, np.random.default_rng(recipe.seed))


def train_step(run: Run, recipe: FinetuneRecipe, batch: list[Sample]) -> float:
    """Do one step of the optimiser and return the loss."""
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * learning_rate_share(run.step, recipe)
    images, fractions = collate(batch)
    weights = torch.tensor([s.weight for s in batch])
    run.network.train()
    loss = dice_cross_entropy(run.network(images), fractions, weights)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call] # torch
    clip_grad_norm_(run.network.parameters(), recipe.clip)
    run.optimizer.step()
    run.step += 1
    run.average.update_parameters(run.network)
    return float(loss.detach())


def learning_rate_share(step: int, recipe: FinetuneRecipe) -> float:
    """Linear warm-up, then a cosine down to zero."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def collate(batch: list[Sample]) -> tuple[Tensor, Tensor]:
    """Stack samples, padded at their ends with air to common sides.

    Returns
    -------
    tuple of Tensor
        Images (B, 1, R, A) and fractions (B, compartments, R, A).
    """
    sides = np.max([s.image.shape[1:] for s in batch], axis=0)
    images = [_pad(s.image, sides) for s in batch]
    fractions = [_pad(s.fractions, sides) for s in batch]
    for stack in fractions:
        stack[Compartment.OTHER] += 1 - stack.sum(axis=0)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(fractions))


def _pad(array: NDArray[np.float32], sides: NDArray[np.int64]) -> NDArray[np.float32]:
    missing = sides - array.shape[1:]
    padded: NDArray[np.float32] = np.pad(array, ((0, 0), (0, missing[0]), (0, missing[1])))
    return padded
