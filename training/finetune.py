"""Segmentation training: labelled slices in, weights out."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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
from pipeline.weights import choose_device, load_model
from training import checkpoint
from training.batches import draw_batches, generator_of
from training.config import FinetuneRecipe, finetune_in_steps
from training.data import LabelledSlice, Sample, chances, fingerprint, sample
from training.export import load_checkpoint
from training.interruption import stop_requests
from training.losses import dice_cross_entropy
from training.precision import gradient_scaler, low_precision
from training.pretrain import due
from training.progress import bar
from training.runfolder import RunFolder, peak_memory_mb, recording
from training.schedules import warmup_cosine
from training.validation import Score, picture, validate

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """What a training run changes step by step.

    ``best`` is the running mean of the weights at the best validation, empty without one.
    """

    network: nn.Module
    average: AveragedModel
    optimizer: AdamW
    scaler: torch.amp.GradScaler
    device: torch.device
    step: int = 0
    best: dict[str, Tensor] | None = None
    best_score: Score | None = None
    worse: int = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        best = self.best_score
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "best_score": None if best is None else (best.step, best.error_percent, best.dice),
            "worse": self.worse,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.best = state.get("best")
        stored = state.get("best_score")
        self.best_score = None if stored is None else Score(*stored)
        self.worse = state.get("worse", 0)


def finetune(
    recipe: FinetuneRecipe,
    slices: list[LabelledSlice],
    out: Path,
    resume: bool,
    device: str = "cpu",
) -> Path:
    """Train one network.

    Parameters
    ----------
    recipe : FinetuneRecipe
    slices : list of LabelledSlice
        Those of held-out and of validation patients are left out here.
    out : Path
        Folder of the run.
    resume : bool
        Go on from the last checkpoint when there is one.
    device : str
        As for ``pipeline.weights.choose_device``.

    Returns
    -------
    Path
        The last checkpoint.
    """
    torch.set_num_threads(recipe.threads)
    unseen = {*recipe.held_out, *recipe.validation}
    kept = [s for s in slices if s.patient not in unseen]
    judges = [s for s in slices if s.patient in recipe.validation]
    recipe = finetune_in_steps(recipe, len(kept))
    run = start(recipe, choose_device(device))
    path = out / "checkpoint.pt"
    if resume and path.exists():
        run.restore(checkpoint.load(path))
    facts = {
        "kind": "finetune", "recipe": recipe.to_dict(), "seed": recipe.seed,
        "data": fingerprint(slices),
        "patients": {"trained_on": len({s.patient for s in kept}), "slices": len(kept)},
    }  # fmt: skip
    log.info("training starts", slices=len(kept), step=run.step, steps=recipe.steps)
    with recording(out, facts, writes=True) as folder:
        _train(run, recipe, kept, judges, folder)
    return path


def start(recipe: FinetuneRecipe, device: torch.device | None = None) -> Run:
    """Build the network and everything that goes with it, from the recipe's seed."""
    device = device or torch.device("cpu")
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network, {**recipe.arguments, "out_channels": len(Compartment)})
    if recipe.pretrained:
        encoder = network.get_submodule("transformer")
        student = checkpoint.load(Path(recipe.pretrained))["student"]
        # Integer buffers are index tables that the network makes itself.
        own = {k: v for k, v in encoder.state_dict().items() if not v.is_floating_point()}
        encoder.load_state_dict(own | student)
    if recipe.weights:
        network.load_state_dict(_earlier(recipe))
    network = network.to(device)
    decay = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call] # torch
    average = AveragedModel(network, multi_avg_fn=decay)
    optimizer = AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    scaler = gradient_scaler(recipe.precision, device)
    return Run(network, average, optimizer, scaler, device)


def _earlier(recipe: FinetuneRecipe) -> dict[str, Tensor]:
    """Return weights to go on from: of a run, or of the exported member that the seed names."""
    folder, cpu = Path(recipe.weights), torch.device("cpu")
    stored = folder / "checkpoint.pt"
    if stored.exists():
        earlier = checkpoint.load(stored)["recipe"]
        unseen = {*earlier["held_out"], *earlier["validation"]}
        seen = {*recipe.held_out, *recipe.validation} - unseen
        if seen:
            raise ValueError(f"{folder} was trained on {', '.join(sorted(seen))}, to be left out")
        model = load_checkpoint(stored, cpu)
    else:
        model = load_model(folder, cpu)
    if model.spec != recipe.preprocess:
        raise ValueError(f"{folder} was trained with another preprocessing than the recipe's")
    return model.networks[recipe.seed % len(model.networks)].state_dict()


def draw_sample(
    recipe: FinetuneRecipe,
    slices: Sequence[LabelledSlice],
    shares: NDArray[np.float64],
    step: int,
    place: int,
) -> Sample:
    """Draw what lies in one place of the batch of a step.

    Parameters
    ----------
    recipe : FinetuneRecipe
    slices : sequence of LabelledSlice
    shares : NDArray[np.float64], shape (slices,)
        Chance of each slice, from ``training.data.chances``.
    step, place : int
    """
    generator = generator_of(recipe.seed, step, place)
    index = generator.choice(len(slices), p=shares)
    return sample(slices[index], recipe.preprocess, recipe.augmentation, generator)


def _train(
    run: Run,
    recipe: FinetuneRecipe,
    kept: list[LabelledSlice],
    judges: list[LabelledSlice],
    folder: RunFolder,
) -> None:
    batches = draw_batches(
        partial(draw_sample, recipe, kept, chances(kept)), list, range(run.step, recipe.steps),
        range(recipe.batch * recipe.accumulate), recipe.helpers,
    )  # fmt: skip
    losses: list[float] = []
    since, first = time.monotonic(), run.step
    with bar("training", recipe.steps, run.step) as advance, stop_requests() as stopping:
        for batch in batches:
            losses.append(train_step(run, recipe, batch))
            advance(run.step, loss=losses[-1])
            enough = _judge(run, recipe, judges, folder)
            if due(run.step, recipe.picture_steps):
                shown = (judges or kept)[0]
                folder.picture("prediction", run.step, picture(run.average, recipe, shown))
            last = enough or run.step == recipe.steps or stopping()
            if last or due(run.step, recipe.checkpoint_steps):
                samples = (run.step - first) * recipe.batch * recipe.accumulate
                numbers = {
                    "loss": float(np.mean(losses)),
                    "samples_per_s": samples / (time.monotonic() - since),
                    "memory_mb": peak_memory_mb(run.device),
                }
                log.info(
                    "checkpoint", step=run.step, **{k: round(v, 4) for k, v in numbers.items()}
                )
                folder.log(run.step, numbers)
                losses.clear()
                state = run.state() | {"recipe": recipe.to_dict()}
                checkpoint.save(folder.path / "checkpoint.pt", state)
            if last and run.step < recipe.steps:
                log.info("stopped", step=run.step, converged=enough)
                return


def _judge(
    run: Run, recipe: FinetuneRecipe, judges: Sequence[LabelledSlice], folder: RunFolder
) -> bool:
    """Validate when it is time, keep the best weights, and say whether that is enough."""
    if not judges or not due(run.step, recipe.validation_steps):
        return False
    score = validate(run.average, recipe, judges, run.step, run.device)
    folder.log(run.step, {"validation_dice": score.dice, "validation_error": score.error_percent})
    log.info("validation", step=run.step, dice=score.dice, error_percent=score.error_percent)
    if run.best_score is None or score.error_percent < run.best_score.error_percent:
        run.best_score, run.worse = score, 0
        run.best = {k: v.cpu() for k, v in copy.deepcopy(run.average.state_dict()).items()}
    else:
        run.worse += 1
    return 0 < recipe.patience <= run.worse


def train_step(run: Run, recipe: FinetuneRecipe, batch: list[Sample]) -> float:
    """Do one step of the optimiser and return the loss."""
    # Stochastic depth depends on the step alone, so that a resumed run draws the same.
    torch.manual_seed(recipe.seed * 1_000_003 + run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * learning_rate_share(run.step, recipe)
    run.network.train()
    total = 0.0
    for part in range(recipe.accumulate):
        samples = batch[part :: recipe.accumulate]
        images, fractions = (tensor.to(run.device) for tensor in collate(samples))
        weights = torch.tensor([s.weight for s in samples], device=run.device)
        with low_precision(recipe.precision, run.device):
            logits = run.network(images)
        loss = dice_cross_entropy(logits.float(), fractions, weights) / recipe.accumulate
        run.scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch
        total += float(loss.detach())
    run.scaler.unscale_(run.optimizer)
    clip_grad_norm_(run.network.parameters(), recipe.clip)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.average.update_parameters(run.network)
    return total


def learning_rate_share(step: int, recipe: FinetuneRecipe) -> float:
    """Linear warm-up, then a cosine down to zero, or nothing more."""
    if recipe.schedule == "constant":
        return min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    return warmup_cosine(step, recipe.steps, recipe.warmup_steps)


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
