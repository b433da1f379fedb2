"""Self-supervised training of a SMIT encoder on CT without labels."""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from pipeline.networks import build_network
from pipeline.networks.smit import SmitNetwork
from pipeline.weights import choose_device
from training import checkpoint
from training.batches import draw_batches, generator_of, stacked
from training.branch import TOKEN_STRIDE, Branch
from training.config import PretrainRecipe, pretrain_in_steps
from training.distillation import (
    Information,
    cross_entropy,
    draw_mask,
    enlarge,
    information,
    masked_l1,
)
from training.distributed import Workers, join_workers, mean_over_workers, parallel
from training.interruption import stop_requests
from training.precision import gradient_scaler, low_precision
from training.progress import bar
from training.runfolder import RunFolder, grey_rgb, peak_memory_mb, recording
from training.schedules import teacher_share, teacher_temperature, warmup_cosine
from training.unlabelled import Unlabelled, draw_views, fingerprint

log = structlog.get_logger(__name__)

_PATCH = 2
_ALONE = Workers(0, 1, torch.device("cpu"))

Batch = tuple[Tensor, ...]
"""Views, shape (B, 2, channels, ...), and masks of their cells, shape (B, 2, 1, ...)."""


class CollapseError(RuntimeError):
    """The teacher says the same of everything, or never hesitates; nothing is learned."""


@dataclass(slots=True)
class Pretraining:
    """What pre-training changes step by step."""

    student: Branch
    teacher: Branch
    forward: nn.Module
    optimizer: AdamW
    scaler: torch.amp.GradScaler
    centers: dict[str, Tensor]
    workers: Workers
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
            "scaler": self.scaler.state_dict(),
            "centers": self.centers,
            "collapsed_steps": self.collapsed_steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        self.student.load_state_dict(state["student_branch"])
        self.teacher.load_state_dict(state["teacher_branch"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.centers = {k: v.to(self.workers.device) for k, v in state["centers"].items()}
        self.collapsed_steps = state["collapsed_steps"]


def pretrain(
    recipe: PretrainRecipe, unlabelled: Unlabelled, out: Path, resume: bool, device: str = "cpu"
) -> Path:
    """Train an encoder without labels, on as many processes as ``torchrun`` started.

    Parameters
    ----------
    recipe : PretrainRecipe
    unlabelled : Unlabelled
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

    Raises
    ------
    CollapseError
        If the teacher's output has been uniform, or certain, for too long.
    """
    torch.set_num_threads(recipe.threads)
    recipe = pretrain_in_steps(recipe, len(unlabelled.volumes))
    path = out / "checkpoint.pt"
    with join_workers(choose_device(device)) as workers:
        run = start(recipe, workers)
        if resume and path.exists():
            run.restore(checkpoint.load(path))
        facts = {
            "kind": "pretrain", "recipe": recipe.to_dict(), "seed": recipe.seed,
            "processes": workers.count, "data": fingerprint(unlabelled),
        }  # fmt: skip
        log.info("pre-training starts", volumes=len(unlabelled.volumes), step=run.step)
        with recording(out, facts, writes=workers.first) as folder:
            _train(run, recipe, unlabelled, folder, path)
    return path


def start(recipe: PretrainRecipe, workers: Workers = _ALONE) -> Pretraining:
    """Build student, teacher and optimiser; the teacher starts as a copy of the student."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network, {**recipe.arguments, "mask_token": True})
    if not isinstance(network, SmitNetwork):
        raise TypeError(f"pre-training needs a SMIT network, not {recipe.network}")
    student = Branch(network.transformer, recipe).to(workers.device)
    teacher = copy.deepcopy(student).requires_grad_(requires_grad=False)
    optimizer = AdamW(
        student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    centers = {
        kind: torch.zeros(recipe.prototypes, device=workers.device) for kind in ("patch", "global")
    }
    scaler = gradient_scaler(recipe.precision, workers.device)
    wrapped = parallel(student, workers)
    return Pretraining(student, teacher, wrapped, optimizer, scaler, centers, workers)


def draw_sample(
    recipe: PretrainRecipe, unlabelled: Unlabelled, dims: int, step: int, place: int
) -> tuple[Tensor, Tensor]:
    """Draw the two views of one place in the batch of a step, and their masks."""
    generator = generator_of(recipe.seed, step, place)
    views = torch.from_numpy(draw_views(unlabelled, recipe, dims, generator))
    cells = tuple(side // TOKEN_STRIDE for side in views.shape[2:])
    seed = int(generator.integers(2**62))
    mask = draw_mask(len(views), cells, recipe.mask_ratio, torch.Generator().manual_seed(seed))
    return views, mask


def _train(
    run: Pretraining, recipe: PretrainRecipe, unlabelled: Unlabelled, folder: RunFolder, path: Path
) -> None:
    places = [
        batch * recipe.batch + place
        for batch in range(recipe.accumulate)
        for place in run.workers.share(recipe.batch)
    ]
    draw = partial(draw_sample, recipe, unlabelled, run.student.encoder.config.spatial_dims)
    steps = range(run.step, recipe.steps)
    batches = draw_batches(draw, stacked, steps, places, recipe.helpers)
    since, images = time.monotonic(), 0
    with bar("pre-training", recipe.steps, run.step) as advance, stop_requests() as stopping:
        for batch in batches:
            losses = pretrain_step(run, recipe, batch)
            advance(run.step, image=losses["image"], entropy=losses["entropy"])
            images += recipe.batch * recipe.accumulate
            if due(run.step, recipe.picture_steps) and run.workers.first:
                folder.picture("masked", run.step, picture(run, batch))
            last = run.step == recipe.steps or stopping()
            if last or due(run.step, recipe.checkpoint_steps):
                speed = images / (time.monotonic() - since)
                memory_mb = peak_memory_mb(run.workers.device)
                numbers = {**losses, "images_per_s": speed, "memory_mb": memory_mb}
                log.info(
                    "checkpoint", step=run.step, **{k: round(v, 4) for k, v in numbers.items()}
                )
                folder.log(run.step, numbers)
                if run.workers.first:
                    checkpoint.save(path, run.state() | {"recipe": recipe.to_dict()})
            if stopping():
                log.info("stopped; --resume goes on from here", step=run.step)
                return


def due(step: int, every: int) -> bool:
    """Whether something that happens after each so many steps happens now; 0 is never."""
    return every > 0 and step % every == 0


def pretrain_step(run: Pretraining, recipe: PretrainRecipe, batch: Batch) -> dict[str, float]:
    """Do one step and return the losses with the teacher's information.

    Parameters
    ----------
    run : Pretraining
    recipe : PretrainRecipe
    batch : tuple of Tensor
        Of this process, for all the batches that are accumulated.
    """
    # Stochastic depth depends on the step alone, so that a resumed run draws the same.
    torch.manual_seed((recipe.seed * 1_000_003 + run.step) * 4099 + run.workers.rank)
    for group in run.optimizer.param_groups:
        share = warmup_cosine(run.step, recipe.steps, recipe.warmup_steps)
        group["lr"] = recipe.learning_rate * share
    run.student.train()
    run.teacher.train()
    parts = [part.chunk(recipe.accumulate) for part in batch]
    outputs: list[dict[str, Tensor]] = []
    losses: list[dict[str, Tensor]] = []
    seen: list[Information] = []
    for index, (views, masks) in enumerate(zip(*parts, strict=True)):
        last = index == recipe.accumulate - 1
        with _synchronised(run.forward, last):
            teacher, targets, loss = _losses(run, recipe, views, masks)
            run.scaler.scale(_total(recipe, loss) / recipe.accumulate).backward()  # type: ignore[no-untyped-call] # torch
        outputs.append(teacher)
        losses.append(loss)
        seen.append(information(targets))
    _descend(run, recipe)
    _follow(run, recipe, outputs)
    numbers = _averaged(run, losses, seen)
    _guard(run, recipe, numbers, math.log(recipe.prototypes))
    run.step += 1
    return numbers


def _losses(
    run: Pretraining, recipe: PretrainRecipe, views: Tensor, masks: Tensor
) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    """Return the teacher's means, its patch probabilities and the three losses."""
    device = run.workers.device
    # Views of one image lie half a batch apart.
    images = views.transpose(0, 1).flatten(0, 1).to(device)
    mask = masks.transpose(0, 1).flatten(0, 1).to(device)
    with low_precision(recipe.precision, device):
        patch, whole, predicted = run.forward(images, enlarge(mask, TOKEN_STRIDE // _PATCH))
        with torch.no_grad():
            teacher_patch, teacher_whole, _ = run.teacher(images, None)
    teacher = {"patch": teacher_patch.float(), "global": teacher_whole.float()}
    targets = {
        kind: torch.softmax(
            (output - run.centers[kind])
            / teacher_temperature(run.step, recipe, patch=kind == "patch"),
            dim=-1,
        )
        for kind, output in teacher.items()
    }
    crossed = targets["global"].reshape(2, -1, recipe.prototypes).flip(0).flatten(0, 1)
    student_temperature = recipe.student_temperature
    everything = torch.ones(len(images), device=device)
    losses = {
        "image": masked_l1(predicted.float(), images, enlarge(mask, TOKEN_STRIDE)),
        "patch": cross_entropy(
            targets["patch"], patch.float(), student_temperature, mask.flatten(1).float()
        ),
        "global": cross_entropy(crossed, whole.float(), student_temperature, everything),
    }
    means = {kind: output.flatten(0, -2).mean(0) for kind, output in teacher.items()}
    return means, targets["patch"], losses


def _total(recipe: PretrainRecipe, losses: Mapping[str, Tensor]) -> Tensor:
    return losses["image"] + recipe.distillation_weight * (losses["patch"] + losses["global"])


def _synchronised(forward: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Gradients travel between processes once a step, with its last batch."""
    if last or not isinstance(forward, DistributedDataParallel):
        return nullcontext()
    held: AbstractContextManager[object] = forward.no_sync()
    return held


def _descend(run: Pretraining, recipe: PretrainRecipe) -> None:
    """Move the student; its prototypes stay in the first steps, so that targets settle."""
    if run.step < recipe.freeze_steps:
        run.student.patch_head.prototypes.grad = None
        run.student.global_head.prototypes.grad = None
    run.scaler.unscale_(run.optimizer)
    clip_grad_norm_(run.student.parameters(), recipe.clip)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _follow(
    run: Pretraining, recipe: PretrainRecipe, outputs: Sequence[Mapping[str, Tensor]]
) -> None:
    """Move the teacher and the centers towards the student and the outputs."""
    share = teacher_share(run.step, recipe)
    pairs = zip(run.teacher.parameters(), run.student.parameters(), strict=True)
    for teacher, student in pairs:
        teacher.lerp_(student, share)
    for kind, center in run.centers.items():
        mean = torch.stack([output[kind] for output in outputs]).mean(0)
        mean = mean_over_workers(mean, run.workers)
        run.centers[kind] = center.lerp(mean, 1 - recipe.center_momentum)


def _averaged(
    run: Pretraining, losses: Sequence[Mapping[str, Tensor]], seen: Sequence[Information]
) -> dict[str, float]:
    """Means over the accumulated batches and the processes."""
    names = [*losses[0], "entropy", "mutual"]
    rows = [
        [*(float(value.detach()) for value in loss.values()), one.entropy, one.mutual]
        for loss, one in zip(losses, seen, strict=True)
    ]
    means = torch.tensor(np.mean(rows, axis=0), dtype=torch.float64)
    means = mean_over_workers(means.to(run.workers.device), run.workers)
    return dict(zip(names, means.tolist(), strict=True))


def _guard(
    run: Pretraining, recipe: PretrainRecipe, numbers: Mapping[str, float], largest: float
) -> None:
    """Count collapsed steps in a row and stop when there are too many."""
    entropy = numbers["entropy"]
    collapsed = entropy > 0.99 * largest or entropy < 0.05 * largest or not math.isfinite(entropy)
    run.collapsed_steps = run.collapsed_steps + 1 if collapsed else 0
    if run.collapsed_steps >= recipe.collapse_steps:
        raise CollapseError(
            f"teacher entropy is {entropy:.2f} of {largest:.2f} nats "
            f"since {run.collapsed_steps} steps"
        )


@torch.no_grad()
def picture(run: Pretraining, batch: Batch) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Show a view, what the student sees of it, and what it makes of that."""
    views, masks = (part[:1, 0].to(run.workers.device) for part in batch)
    run.student.eval()
    _, _, predicted = run.student(views, enlarge(masks, TOKEN_STRIDE // _PATCH))
    hidden = enlarge(masks, TOKEN_STRIDE)
    panels = [views, torch.where(hidden, 0.5, views), torch.where(hidden, predicted, views)]
    planes = [panel[0, 0].float().cpu().numpy() for panel in panels]
    middle = [plane if plane.ndim == 2 else plane[..., plane.shape[-1] // 2] for plane in planes]
    return grey_rgb(middle)
