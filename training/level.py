"""Trains the finder of L3."""

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.level import LevelNet, ViewNet, front_channels, side_channels
from training import checkpoint
from training.config import CASES_FOLDER
from training.level_augment import LevelSample, draw_sample
from training.level_cases import LevelCase, read_cases

log = structlog.get_logger(__name__)

VIEWS: Final = ("side", "front")
_LOG_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class LevelRecipe:
    """How to train the finder.

    Parameters
    ----------
    name : str
    width : int
        Of the network.
    cases : str
        File name of a case list beside the training code.
    held_out : tuple of str
        Patients that training must not see.
    steps, batch : int
        For each view.
    learning_rate, weight_decay : float
    warmup_steps : int
    average_decay : float
        Of the running mean of the weights, which is what is exported.
    rows : tuple[int, int]
        Shortest and longest window, in rows of 2 mm.
    negatives : float
        Share of windows without a vertebra.
    smoothing : float
        Share of each row's target that is spread over all classes.
    seed, threads : int
    """

    name: str = "l3_finder"
    width: int = 16
    cases: str = "levels.toml"
    held_out: tuple[str, ...] = ()
    steps: int = 1500
    batch: int = 6
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    average_decay: float = 0.99
    rows: tuple[int, int] = (44, 210)
    negatives: float = 0.05
    smoothing: float = 0.05
    seed: int = 1
    threads: int = 1
    views: tuple[str, ...] = field(default=VIEWS)


def read_recipe(path: Path, held_out: Sequence[str] = ()) -> LevelRecipe:
    """Read a recipe (TOML); ``held_out`` replaces the file's when given."""
    values: dict[str, Any] = tomllib.loads(path.read_text())
    if held_out:
        values["held_out"] = list(held_out)
    plain: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
    }
    return LevelRecipe(**plain)


def main(recipe: LevelRecipe, data_folder: Path, out_folder: Path) -> Path:
    """Train both views and return the path of the checkpoint.

    Parameters
    ----------
    recipe : LevelRecipe
    data_folder, out_folder : Path
    """
    torch.set_num_threads(recipe.threads)
    cases = read_cases(data_folder, CASES_FOLDER / recipe.cases)
    return train(recipe, cases, out_folder)


def train(recipe: LevelRecipe, cases: Sequence[LevelCase], out_folder: Path) -> Path:
    """Train on ``cases`` without the held-out patients and write a checkpoint."""
    torch.manual_seed(recipe.seed)
    generator = np.random.default_rng(recipe.seed)
    network = LevelNet(recipe.width)
    kept = [case for case in cases if case.patient not in recipe.held_out]
    averages = {
        view: _train_view(getattr(network, view), view, recipe, kept, generator)
        for view in recipe.views
    }
    for view, average in averages.items():
        getattr(network, view).load_state_dict(average)
    path = out_folder / "checkpoint.pt"
    state: dict[str, Any] = {"recipe": asdict(recipe), "network": network.state_dict()}
    checkpoint.save(path, state, generator)
    return path


def _train_view(
    network: ViewNet,
    view: str,
    recipe: LevelRecipe,
    cases: Sequence[LevelCase],
    generator: np.random.Generator,
) -> dict[str, Tensor]:
    """Train the network of one view; returns the running mean of its weights."""
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    average = {key: value.clone() for key, value in network.state_dict().items()}
    losses = np.zeros(2)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _rate(step, recipe)
        samples = _draw_batch(cases, view, recipe, generator)
        centre_loss, level_loss = view_losses(network, view, samples, recipe.smoothing)
        optimizer.zero_grad()
        (centre_loss + level_loss).backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimizer.step()
        decay = min(recipe.average_decay, (step + 1) / (step + 10))
        for key, value in network.state_dict().items():
            average[key].lerp_(value, 1 - decay)
        losses += centre_loss.item(), level_loss.item()
        if (step + 1) % _LOG_STEPS == 0:
            means = (losses / _LOG_STEPS).round(4).tolist()
            log.info("step", view=view, step=step + 1, centre_loss=means[0], level_loss=means[1])
            losses[:] = 0
    return average


def view_losses(
    network: ViewNet, view: str, samples: Sequence[LevelSample], smoothing: float
) -> tuple[Tensor, Tensor]:
    """Losses of body centres (zero for the front) and of levels."""
    hu = torch.from_numpy(np.stack([sample.hu for sample in samples]))
    channels = side_channels(hu[:, 0]) if view == "side" else front_channels(hu)
    centre_logits, level_logits = network(channels)
    levels = torch.from_numpy(np.stack([sample.levels for sample in samples]))
    known_rows = levels.sum(dim=1, keepdim=True)
    levels = levels * (1 - smoothing) + known_rows * smoothing / levels.shape[1]
    level_loss = -(levels * functional.log_softmax(level_logits, dim=1)).sum() / levels.sum()
    if view == "front":
        return torch.zeros(()), level_loss
    centres = torch.from_numpy(np.stack([sample.centres for sample in samples]))
    known = torch.from_numpy(np.stack([sample.centres_known for sample in samples]))
    weights = (1 + 30 * centres) * known[:, :, None]
    wrong = functional.binary_cross_entropy_with_logits(centre_logits, centres, reduction="none")
    return 10 * (wrong * weights).sum() / (weights.sum() + 1), level_loss


def _rate(step: int, recipe: LevelRecipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return float(0.5 * (1 + np.cos(np.pi * done)))


def _draw_batch(
    cases: Sequence[LevelCase], view: str, recipe: LevelRecipe, generator: np.random.Generator
) -> list[LevelSample]:
    """Draw windows of one length; patients, not cases, have equal chances."""
    low, high = recipe.rows
    longest = max(
        case.sides[0].shape[0]
        for case in cases
        if len(case.numbers) and (view == "side" or case.front is not None)
    )
    high = min(high, longest)
    rows = int(np.exp(generator.uniform(np.log(low), np.log(high))))
    usable = [
        case
        for case in cases
        if case.sides[0].shape[0] >= rows * 0.85 and (view == "side" or case.front is not None)
    ]
    spines = [case for case in usable if len(case.numbers)]
    negatives = [case for case in usable if not len(case.numbers)]
    patients = sorted({case.patient for case in spines})
    samples = []
    for _ in range(recipe.batch):
        group = negatives
        if not negatives or generator.random() >= recipe.negatives:
            patient = patients[generator.integers(len(patients))]
            group = [case for case in spines if case.patient == patient]
        case = group[generator.integers(len(group))]
        samples.append(draw_sample(case, view, rows, generator))
    return samples
