"""Self-supervised training of a SMIT encoder on CT without labels."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from pipeline.networks import build_network
from pipeline.networks.smit import SmitEncoder, SmitNetwork
from training import checkpoint
from training.config import PretrainRecipe
from training.distillation import (
    Information,
    ProjectionHead,
    cross_entropy,
    draw_mask,
    enlarge,
    information,
    masked_l1,
)
from training.unlabelled import Unlabelled, draw_views

log = structlog.get_logger(__name__)

_IMAGE_STRIDE = 32
_TOKEN_STRIDE = 16
_PATCH = 2


class CollapseError(RuntimeError):
    """The teacher says the same of everything, or never hesitates; nothing is learned."""


class Branch(nn.Module):
    """An encoder with everything that reads from it; student and teacher are one each.

    Parameters
    ----------
    encoder : SmitEncoder
    recipe : PretrainRecipe
    """

    def __init__(self, encoder: SmitEncoder, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.encoder = encoder
        channels = encoder.config.stage_dims[3]
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        sizes = (channels, recipe.hidden, recipe.bottleneck, recipe.prototypes)
        self.patch_head = ProjectionHead(*sizes, normalised=recipe.head_norm)
        self.global_head = ProjectionHead(*sizes, normalised=recipe.head_norm)
        pixels = _IMAGE_STRIDE**2 * encoder.config.in_channels
        self.to_pixels = nn.Conv2d(2 * channels, pixels, 1)

    def tokens(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return patch logits (B, cells, K), global logits (B, K) and the image predicted."""
        _, merged = self.encoder.stages(images, mask)
        tokens = self.norm(merged[2]).flatten(1, 2)
        predicted = self.to_pixels(merged[3].movedim(-1, 1))
        predicted = nn.functional.pixel_shuffle(predicted, _IMAGE_STRIDE)
        return self.patch_head(tokens), self.global_head(tokens.mean(1)), predicted


@dataclass(slots=True)
class Pretraining:
    """What pre-training changes step by step."""

    student: Branch
    teacher: Branch
    optimizer: AdamW
    centers: dict[str, Tensor]
    generator: np.random.Generator
    step: int = 0
    collapsed_steps: int = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds; ``student`` is the encoder that fine-tuning takes."""
        encoder = self.student.encoder.state_dict()
        return {
            "step": self.step,
            "student": {k: v for k, v in encoder.items() if k != "mask_token"},
            "student_branch": self.student.state_dict(),
            "teacher_branch": self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "centers": self.centers,
            "collapsed_steps": self.collapsed_steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        self.student.load_state_dict(state["student_branch"])
        self.teacher.load_state_dict(state["teacher_branch"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.centers = state["centers"]
        self.collapsed_steps = state["collapsed_steps"]


def pretrain(recipe: PretrainRecipe, unlabelled: Unlabelled, out: Path, resume: bool) -> Path:
    """Train an encoder without labels.

    Parameters
    ----------
    recipe : PretrainRecipe
    unlabelled : Unlabelled
    out : Path
        Folder of the run.
    resume : bool
        Go on from the last checkpoint when there is one.

    Returns
    -------
    Path
        The last checkpoint.

    Raises
    ------
    CollapseError
        If the teacher's output has been uniform, or certain, for too long.
    """
    torch.set_num_threads(recipe.threads)
    run = start(recipe)
    path = out / "checkpoint.pt"
    if resume and path.exists():
        run.restore(checkpoint.load(path, run.generator))
    log.info("pre-training starts", volumes=len(unlabelled.volumes), step=run.step)
    while run.step < recipe.steps:
        views = [
            draw_views(
                unlabelled,
                recipe.preprocess,
                (recipe.region, recipe.crop),
                recipe.augmentation,
                run.generator,
            )
            for _ in range(recipe.batch)
        ]
        losses = pretrain_step(run, recipe, torch.from_numpy(np.stack(views, axis=1)))
        if run.step % recipe.checkpoint_steps == 0 or run.step == recipe.steps:
            log.info("checkpoint", step=run.step, **{k: round(v, 4) for k, v in losses.items()})
            checkpoint.save(path, run.state() | {"recipe": recipe.to_dict()}, run.generator)
    return path


def start(recipe: PretrainRecipe) -> Pretraining:
    """Build student, teacher and optimiser; the teacher starts as a copy of the student."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network, {**recipe.arguments, "mask_token": True})
    if not isinstance(network, SmitNetwork) or network.config.spatial_dims != 2:
        raise TypeError(f"pre-training needs a SMIT network of slices, not {recipe.network}")
    student = Branch(network.transformer, recipe)
    teacher = copy.deepcopy(student).requires_grad_(requires_grad=False)
    optimizer = AdamW(
        student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    centers = {kind: torch.zeros(recipe.prototypes) for kind in ("patch", "global")}
    return Pretraining(student, teacher, optimizer, centers, np.random.default_rng(recipe.seed))


def pretrain_step(run: Pretraining, recipe: PretrainRecipe, views: Tensor) -> dict[str, float]:
    """Do one step and return the losses with the teacher's information.

    Parameters
    ----------
    run : Pretraining
    recipe : PretrainRecipe
    views : Tensor, shape (2, B, 1, side, side)
    """
    progress = run.step / recipe.steps
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * _rate_share(run.step, recipe)
    images = views.flatten(0, 1)
    seed = int(run.generator.integers(2**62))
    cells = (views.shape[-2] // _TOKEN_STRIDE, views.shape[-1] // _TOKEN_STRIDE)
    mask = draw_mask(len(images), cells, recipe.mask_ratio, torch.Generator().manual_seed(seed))
    run.student.train()
    run.teacher.train()
    patch, whole, predicted = run.student.tokens(images, enlarge(mask, _TOKEN_STRIDE // _PATCH))
    with torch.no_grad():
        teacher_patch, teacher_whole, _ = run.teacher.tokens(images, None)
    temperature = _temperature(progress, recipe)
    targets = {
        "patch": torch.softmax((teacher_patch - run.centers["patch"]) / temperature, dim=-1),
        "global": torch.softmax((teacher_whole - run.centers["global"]) / temperature, dim=-1),
    }
    crossed = targets["global"].reshape(2, -1, recipe.prototypes).flip(0).flatten(0, 1)
    losses = {
        "image": masked_l1(predicted, images, enlarge(mask, _TOKEN_STRIDE)),
        "patch": cross_entropy(
            targets["patch"], patch, recipe.student_temperature, mask.flatten(1).float()
        ),
        "global": cross_entropy(
            crossed, whole, recipe.student_temperature, torch.ones(len(images))
        ),
    }
    _descend(run, recipe, losses)
    _follow(run, recipe, {"patch": teacher_patch, "global": teacher_whole}, progress)
    seen = information(targets["patch"])
    _guard(run, recipe, seen)
    run.step += 1
    return {
        **{kind: float(loss.detach()) for kind, loss in losses.items()},
        "entropy": seen.entropy,
        "mutual": seen.mutual,
    }


def _descend(run: Pretraining, recipe: PretrainRecipe, losses: Mapping[str, Tensor]) -> None:
    """Move the student; its prototypes stay in the first steps, so that targets settle."""
    weight = recipe.distillation_weight
    total = losses["image"] + weight * (losses["patch"] + losses["global"])
    run.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call] # torch
    if run.step < recipe.freeze_steps:
        run.student.patch_head.prototypes.grad = None
        run.student.global_head.prototypes.grad = None
    clip_grad_norm_(run.student.parameters(), recipe.clip)
    run.optimizer.step()


@torch.no_grad()
def _follow(
    run: Pretraining, recipe: PretrainRecipe, outputs: Mapping[str, Tensor], progress: float
) -> None:
    """Move the teacher and the centers towards the student and the outputs."""
    share = (1 - recipe.teacher_momentum) * (math.cos(math.pi * progress) + 1) / 2
    pairs = zip(run.teacher.parameters(), run.student.parameters(), strict=True)
    for teacher, student in pairs:
        teacher.lerp_(student, share)
    for kind, output in outputs.items():
        mean = output.reshape(-1, output.shape[-1]).mean(0)
        run.centers[kind] = run.centers[kind].lerp(mean, 1 - recipe.center_momentum)


def _guard(run: Pretraining, recipe: PretrainRecipe, seen: Information) -> None:
    """Count collapsed steps in a row and stop when there are too many."""
    collapsed = seen.entropy > 0.99 * seen.largest or seen.entropy < 0.05 * seen.largest
    run.collapsed_steps = run.collapsed_steps + 1 if collapsed else 0
    if run.collapsed_steps >= recipe.collapse_steps:
        raise CollapseError(
            f"teacher entropy is {seen.entropy:.2f} of {seen.largest:.2f} nats "
            f"since {run.collapsed_steps} steps"
        )


def _rate_share(step: int, recipe: PretrainRecipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _temperature(progress: float, recipe: PretrainRecipe) -> float:
    """Teacher temperature: rises linearly over the first part of the run."""
    low, high = recipe.teacher_temperature
    return low + (high - low) * min(1.0, progress / recipe.temperature_rise)
